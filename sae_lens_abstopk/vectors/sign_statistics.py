"""Statistics of vectors that bear on whether an SAE of them should have signs; no SAE is needed."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lens_abstopk.vectors.vectors import Vectors

ROWS = 20_000
"""Rows that are read, evenly spaced."""
DIRECTIONS = 64
"""Principal directions whose two sides are compared."""


class SignStatistics(NamedTuple):
    """Each is between 0 and 1, or a number without a unit."""

    weaker_side: float
    """
    Share of the energy along a principal direction that is on its weaker side, at most 1/2.

    The mean over the leading directions, weighted by their energy. Vectors that are symmetric about their mean have 1/2.
    """
    skewness: float
    """Mean absolute skewness of the projections on these directions, weighted in the same way."""
    effective_rank: float
    """Exponential of the entropy of the spectrum, as a share of the width."""
    mean_energy: float
    """Share of the energy of the vectors that is that of their mean."""
    whitened_kurtosis: float
    """Mean excess kurtosis of whitened leading projections: above 0, they are sparse."""


def sign_statistics(vectors: Vectors, *, n_rows: int = ROWS) -> SignStatistics:
    """Compute :class:`SignStatistics` of at most ``n_rows`` rows."""
    rows = torch.linspace(0, len(vectors) - 1, min(n_rows, len(vectors))).long()
    x = vectors.rows(rows).double()
    mean = x.mean(0)
    centred = x - mean
    variance, directions = torch.linalg.eigh(centred.T @ centred / len(x))
    variance, directions = variance.flip(0).clamp(min=0), directions.flip(1)
    spectrum = variance / variance.sum()
    n = min(DIRECTIONS, int((spectrum > 1e-9).sum()))
    projections: Float[Tensor, "rows n"] = centred @ directions[:, :n]
    weight = variance[:n] / variance[:n].sum()
    energy = projections.square()
    positive = (energy * (projections > 0)).sum(0) / energy.sum(0)
    unit = projections / variance[:n].sqrt()
    return SignStatistics(
        weaker_side=float(weight @ torch.minimum(positive, 1 - positive)),
        skewness=float(weight @ unit.pow(3).mean(0).abs()),
        effective_rank=float(torch.exp(-(spectrum * spectrum.clamp(min=1e-300).log()).sum()) / x.shape[1]),
        mean_energy=float(mean.square().sum() / x.square().sum(1).mean()),
        whitened_kurtosis=float((unit.pow(4).mean(0) - 3).mean()),
    )
