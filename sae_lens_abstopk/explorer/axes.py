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
def axis_matches(W_dec: torch.Tensor, other: torch.Tensor, *, fires: torch.Tensor) -> AxisMatches:
    """
    Nearest directions of ``other`` [G, D] to +d and -d of every row of ``W_dec`` [F, D].

    Rows of ``other`` offer the directions of the poles that ``fires`` (bool [2, G], the positive ones first); where none does,
    all positive ones. Cosines are computed in blocks; no [F, G] matrix is held.
    """
    if not fires.any():
        fires = torch.tensor([[True], [False]]).expand_as(fires)
    ours, theirs = unit_rows(W_dec), unit_rows(other)
    pole, latent = fires.nonzero(as_tuple=True)
    directions = theirs[latent.to(theirs.device)] * (1 - 2 * pole)[:, None].to(theirs)
    nearest, cosine = [], []
    for block in ours.split(max(1, BLOCK_ENTRIES // len(directions))):
        offered = block @ directions.T
        up, down = offered.max(1), offered.min(1)  # -d is nearest to what is furthest from d
        nearest.append(torch.stack([up.indices, down.indices]).cpu())
        cosine.append(torch.stack([up.values, -down.values]).cpu())
    direction = torch.cat(nearest, dim=1)
    return AxisMatches(latent.cpu()[direction], pole.cpu()[direction], torch.cat(cosine, dim=1))
