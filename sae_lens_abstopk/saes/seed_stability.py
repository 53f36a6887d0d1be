"""In how many other SAEs each latent is found again."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sae_lens_abstopk.saes.geometry import unit_rows

FOUND = 0.7
"""A latent is found in another SAE that has one of at least this cosine, or absolute cosine if signed."""


class SeedStability(NamedTuple):
    """Stability of the latents of each seed."""

    found: Float[np.ndarray, "seeds F"]
    """Share of the other seeds in which the latent is found; NaN with one seed."""
    best_seed: int
    """The seed with the highest mean; the first of equal ones, and 0 with one seed."""


@torch.no_grad()
def seed_stability(decoders: Float[Tensor, "seeds F D"], *, signed: bool = True) -> SeedStability:
    """Compare the decoder rows of several seeds; a row of zeros is never found."""
    n = len(decoders)
    found = [share_found(rows, [*decoders[:i], *decoders[i + 1 :]], signed=signed) for i, rows in enumerate(decoders)]
    shares = np.stack(found)
    return SeedStability(shares, int(shares.mean(1).argmax()) if n > 1 else 0)


@torch.no_grad()
def share_found(
    rows: Float[Tensor, "F D"], others: Sequence[Float[Tensor, "_ D"]], *, signed: bool = True
) -> Float[np.ndarray, " F"]:
    """Return the share of the ``others`` in which each decoder row is found; NaN if there are none."""
    if not others:
        return np.full(len(rows), np.nan)
    units, found = unit_rows(rows), np.zeros(len(rows))
    for other in others:
        cosine = units @ unit_rows(other).T
        found += ((cosine.abs() if signed else cosine) >= FOUND).any(1).cpu().numpy()
    return found / len(others)
