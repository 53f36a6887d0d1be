"""How many known axes of synthetic data an SAE has found, and how many latents it spends on each."""

from dataclasses import dataclass

import torch

from sae_lens_abstopk.dictionary.geometry import unit_rows
from sae_lens_abstopk.saes.poles import live_poles

MATCH = 0.9


@dataclass(frozen=True)
class AxisRecovery:
    """
    What became of each axis, an axis being a direction that the data use with both signs.

    A side of an axis is found where a pole of a latent points along it and is alive. An axis with both sides found has
    them on one latent or on two; every axis is in exactly one of the four shares.
    """

    one_latent: float
    """Share of the axes both of whose sides are the two poles of one latent."""
    pair: float
    """Share of the axes both of whose sides are found, on two latents."""
    one_side: float
    """Share of the axes of which one side alone is found."""
    none: float
    """Share of the axes of which no side is found."""
    sides: float
    """Share of the 2 n sides that are found."""
    latents_per_axis: float
    """Mean number of distinct latents behind an axis both of whose sides are found; NaN where there is none."""


@torch.no_grad()
def axis_recovery(
    W_dec: torch.Tensor, axes: torch.Tensor, pole_counts: torch.Tensor, *, threshold: float = MATCH
) -> AxisRecovery:
    """
    Score a dictionary against the axes that made the data.

    Pole p of latent j finds side s of axis a where p s cos(d_j, a) > ``threshold`` and the pole holds at least 1 % of
    the latent's firings. A non-negative latent has one such pole, so it takes two of them to find an axis.

    Args:
        W_dec: Decoder rows [F, D].
        axes: True axes [n, D] of any length and orientation.
        pole_counts: Firings of the positive and of the negative pole on such data, [2, F], as
            :func:`~sae_lens_abstopk.saes.poles.pole_counts` gives them.
        threshold: Least cosine, between 0 and 1.
    """
    cosine = (unit_rows(axes) @ unit_rows(W_dec).T.to(axes.device)).cpu()
    live = live_poles(pole_counts.cpu())
    # [n, F, side]: the positive side is found by a positive pole that points along the axis or a negative one against
    aligned, opposed = cosine > threshold, cosine < -threshold
    finds = torch.stack([aligned & live[0] | opposed & live[1], aligned & live[1] | opposed & live[0]], dim=-1)
    found = finds.any(1)
    by_one = finds.all(-1).any(1)
    both = found.all(1)
    n = len(axes)
    latents = torch.where(by_one, 1.0, 2.0)[both]
    return AxisRecovery(
        one_latent=int(by_one.sum()) / n,
        pair=int((both & ~by_one).sum()) / n,
        one_side=int((found.sum(1) == 1).sum()) / n,
        none=int((found.sum(1) == 0).sum()) / n,
        sides=int(found.sum()) / (2 * n),
        latents_per_axis=latents.mean().item(),
    )
