"""Directions in which a fine-tune moves activations: latents of SAEs on the differences, their mean, and PCA."""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from sae_lens import SAE
from torch import Tensor

from sae_lens_abstopk.diffs.held_out import HeldOut
from sae_lens_abstopk.diffs.latent_kl import estimated_rises, measured_rises
from sae_lens_abstopk.evaluation.steering.steer import written_by
from sae_lens_abstopk.model.model_pair import ModelPair

FIRST = 5
"""Directions of a method that are tried: latents with the largest KL share, components with the most energy."""
MEASURED = 7
"""Latents whose KL share is measured, those of the largest estimate."""


class Direction(NamedTuple):
    """A direction in which the tuned model has more."""

    name: str
    """Latent or component, with the sign of the pole."""
    vector: Float[Tensor, " d_in"]
    """Unit vector, from the base model towards the tuned one."""
    share: float
    """KL share of the latent, or share of the energy of the component."""


def of_sae(pair: ModelPair, held_out: HeldOut, sae: SAE[Any], *, total: float, measured: bool) -> list[Direction]:
    """
    Return the latents of largest KL share as `abstopk diff` ranks them, each by its pole of larger share.

    Shares are estimated from gradients, or ``measured`` for the latents of largest estimate; ``total`` is the
    summed KL(tuned || base).
    """
    estimates = estimated_rises(pair, held_out, sae)
    first = np.argsort(-np.abs(estimates.sum(0)), kind="stable")[:MEASURED].tolist()
    rises = {(latent, side): estimates[row, latent] for latent in first for row, side in ((0, 1), (1, -1))}
    rises |= {(latent, 0): rises[latent, 1] + rises[latent, -1] for latent in first}
    if measured:
        rises = {key: rise.sum() for key, rise in measured_rises(pair, held_out, sae, first).items()}
    order = sorted(first, key=lambda latent: -rises[latent, 0])[:FIRST]
    sides = {latent: 1 if rises[latent, 1] >= rises[latent, -1] else -1 for latent in order}
    return [
        _direction(latent, side, written_by(sae, latent), float(rises[latent, 0] / total))
        for latent, side in sides.items()
    ]


def of_differences(x: Float[Tensor, "n d_in"]) -> dict[str, list[Direction]]:
    """Return the mean of the differences, and their principal components by the pole with the most energy."""
    mean, total = x.mean(0), x.square().sum()
    rows = torch.linalg.svd(x - mean, full_matrices=False).Vh[:FIRST]
    along = x @ rows.T
    energy, side = torch.stack([along.clamp(min=0), along.clamp(max=0)]).square().sum(1).max(0)
    components = zip(side.tolist(), rows, (energy / total).tolist(), strict=True)
    share = float(mean.square().sum() * len(x) / total)
    return {
        "mean": [Direction("mean", mean / mean.norm(), share)],
        "pca": [_direction(at, -1 if negative else 1, row, of) for at, (negative, row, of) in enumerate(components)],
    }


def _direction(number: int, side: int, row: Tensor, share: float) -> Direction:
    return Direction(f"{number}{'+' if side > 0 else '-'}", side * row / row.norm(), round(share, 4))
