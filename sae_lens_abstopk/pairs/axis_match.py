"""In how many other seeds each axis is found again."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sae_lens_abstopk.dictionary.geometry import unit_rows

COSINE = 0.7
"""An axis is found in another seed that has a latent of at least this absolute cosine."""


class AxisStability(NamedTuple):
    """Stability of the axes of each seed."""

    found: Float[np.ndarray, "seeds F"]
    """Share of the other seeds in which the axis is found; NaN with one seed."""
    best_seed: int
    """The seed with the highest mean; the first of equal ones, and 0 with one seed."""


@torch.no_grad()
def axis_stability(decoders: Float[Tensor, "seeds F D"]) -> AxisStability:
    """Compare the decoder rows of several seeds; a row of zeros is never found."""
    units = [unit_rows(rows) for rows in decoders]
    found = np.zeros(decoders.shape[:2])
    for one, other in ((i, j) for i in range(len(units)) for j in range(i)):
        near = (units[one] @ units[other].T).abs() >= COSINE
        found[one] += near.any(1).cpu().numpy()
        found[other] += near.any(0).cpu().numpy()
    best = int(found.mean(1).argmax())
    return AxisStability(found / (len(units) - 1) if len(units) > 1 else np.full_like(found, np.nan), best)
