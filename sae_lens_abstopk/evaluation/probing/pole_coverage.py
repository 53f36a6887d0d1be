"""Pole coverage: how much of both poles a latent, or a pair, answers to with a side of its own."""

import numpy as np
import numpy.typing as npt

from sae_lens_abstopk.evaluation.results.bootstrap import Statistic

Booleans = npt.NDArray[np.bool_]


def single_fires(codes: npt.NDArray[np.floating], orientation: int) -> tuple[Booleans, Booleans]:
    """Where one latent (codes [n]) fires on its side for A and on its side for B; ``orientation`` +1: B is positive."""
    toward_b = orientation * codes
    return toward_b < 0, toward_b > 0


def pair_fires(side_a: npt.NDArray[np.floating], side_b: npt.NDArray[np.floating]) -> tuple[Booleans, Booleans]:
    """
    Where a pair fires for A and for B, from the non-negative sides [n] of its two latents.

    A text counts where one side fires and the other does not, as the two sides of a single latent cannot both fire;
    else two latents that are always on would cover everything.
    """
    return (side_a > 0) & ~(side_b > 0), (side_b > 0) & ~(side_a > 0)


def pole_coverage(fires_a: Booleans, fires_b: Booleans, labels: npt.NDArray[np.integer]) -> Statistic:
    """
    (share of A texts that fire for A + share of B texts that fire for B) / 2, for :func:`~.intervals.bootstrap`.

    1 is both poles covered everywhere. A non-negative latent has one side and cannot exceed 0.5.
    """
    is_a, is_b = (labels == 0).astype(np.float64), (labels == 1).astype(np.float64)

    def statistic(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return (_share(weights, fires_a, is_a) + _share(weights, fires_b, is_b)) / 2

    return statistic


def _share(
    weights: npt.NDArray[np.float64], fires: Booleans, members: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    total = weights @ members
    return np.divide(weights @ (members * fires), total, out=np.full(len(weights), np.nan), where=total > 0)
