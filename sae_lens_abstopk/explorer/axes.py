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
    ours, theirs, signed = unit_rows(W_dec), unit_rows(other), two_sided.nonzero()[:, 0]
    rows = max(1, BLOCK_ENTRIES // len(theirs))
    latent, pole, cosine = [], [], []
    for block in ours.split(rows):
        cosines = block @ theirs.T
        up, down = cosines.max(1), (-cosines).max(1)
        indices = torch.stack([up.indices, down.indices]).cpu()
        values = torch.stack([up.values, down.values]).cpu()
        poles = torch.zeros_like(indices)
        if len(signed):
            # -d_i is as near to +d as d_i is to -d
            of_signed = cosines[:, signed.to(cosines.device)]
            up, down = (-of_signed).max(1), of_signed.max(1)
            turned = torch.stack([up.values, down.values]).cpu()
            poles = (turned > values).long()
            indices = torch.where(turned > values, signed.cpu()[torch.stack([up.indices, down.indices]).cpu()], indices)
            values = torch.maximum(turned, values)
        latent.append(indices)
        pole.append(poles)
        cosine.append(values)
    return AxisMatches(*(torch.cat(parts, dim=1) for parts in (latent, pole, cosine)))
