"""The nearest directions of another SAE."""

from typing import NamedTuple

import torch

from sae_lens_abstopk.saes.geometry import unit_rows

COSINES_AT_ONCE = 2**24


class AxisMatches(NamedTuple):
    """For each latent, the directions of another SAE nearest to +d (row 0) and to -d (row 1): [2, F] each."""

    latent: torch.Tensor
    pole: torch.Tensor
    """Pole of the matched latent: 0 positive, 1 negative."""
    cosine: torch.Tensor


@torch.no_grad()
def axis_matches(W_dec: torch.Tensor, other: torch.Tensor, *, fires: torch.Tensor) -> AxisMatches:
    """
    Find the nearest directions of ``other`` [G, D] to +d and -d of every row of ``W_dec`` [F, D].

    Candidates are the poles of ``other`` that fire (``fires``, bool [2, G], positive ones first), or all positive ones
    if none does. Cosines are computed in blocks, without an [F, G] matrix.
    """
    if not fires.any():
        fires = torch.tensor([[True], [False]]).expand_as(fires)
    ours, theirs = unit_rows(W_dec), unit_rows(other)
    pole, latent = fires.nonzero(as_tuple=True)
    directions = theirs[latent.to(theirs.device)] * (1 - 2 * pole)[:, None].to(theirs)
    nearest, cosine = [], []
    for block in ours.split(max(1, COSINES_AT_ONCE // len(directions))):
        cosines = block @ directions.T
        up, down = cosines.max(1), cosines.min(1)  # the direction furthest from d is nearest to -d
        nearest.append(torch.stack([up.indices, down.indices]).cpu())
        cosine.append(torch.stack([up.values, -down.values]).cpu())
    direction = torch.cat(nearest, dim=1)
    return AxisMatches(latent.cpu()[direction], pole.cpu()[direction], torch.cat(cosine, dim=1))
