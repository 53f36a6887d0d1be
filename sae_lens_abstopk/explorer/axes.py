"""Which directions of one dictionary share the axis of a latent of another."""

from typing import NamedTuple

import torch

from sae_lens_abstopk.dictionary.geometry import unit_rows

BLOCK_ENTRIES = 2**24


class AxisMatches(NamedTuple):
    """For each latent of one SAE, the direction of another SAE that is nearest to each of its poles."""

    latent: torch.Tensor
    """Nearest latent to +d (row 0) and to -d (row 1): int64 [2, F]."""
    pole: torch.Tensor
    """Pole of that latent which points there, 0 positive and 1 negative: int64 [2, F]."""
    cosine: torch.Tensor
    """Cosine of the two directions, float32 [2, F]."""


@torch.no_grad()
def axis_matches(W_dec: torch.Tensor, other: torch.Tensor, *, two_sided: torch.Tensor) -> AxisMatches:
    """
    Nearest directions of ``other`` [G, D] to +d and -d of every row of ``W_dec`` [F, D].

    Rows of ``other`` that are ``two_sided`` (bool [G]) offer both of their directions, the rest the positive one. Cosines
    are computed in blocks; no [F, G] matrix is held.
    """
    ours, theirs, signed = unit_rows(W_dec), unit_rows(other), two_sided.to(other.device).nonzero()[:, 0]
    nearest, cosine = [], []
    for block in ours.split(max(1, BLOCK_ENTRIES // len(theirs))):
        cosines = block @ theirs.T
        offered = torch.cat([cosines, -cosines[:, signed]], dim=1)
        up, down = offered.max(1), offered.min(1)  # -d is nearest to what is furthest from d
        nearest.append(torch.stack([up.indices, down.indices]).cpu())
        cosine.append(torch.stack([up.values, -down.values]).cpu())
    direction = torch.cat(nearest, dim=1)
    latent = torch.cat([torch.arange(len(theirs)), signed.cpu()])[direction]
    return AxisMatches(latent, (direction >= len(theirs)).long(), torch.cat(cosine, dim=1))
