"""Pole coverage: the share of both poles on which a latent, or a pair, fires with a side of its own."""

import numpy as np
import numpy.typing as npt

from sae_lens_abstopk.evaluation.results.bootstrap import Statistic

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]


def single_fires(codes: npt.NDArray[np.floating], orientation: int) -> tuple[Booleans, Booleans]:
    """Whether a latent (codes [n]) fires on its side for A and on its side for B; ``orientation`` +1: B is positive."""
    toward_b = orientation * codes
    return toward_b < 0, toward_b > 0


def pair_fires(side_a: npt.NDArray[np.floating], side_b: npt.NDArray[np.floating]) -> tuple[Booleans, Booleans]:
    """
    Whether a pair fires for A and for B, from the non-negative sides [n] of its two latents.

    A text counts if only one side fires, as the two sides of a single latent cannot both fire; otherwise two latents
    that are always on would cover everything.
    """
    return (side_a > 0) & ~(side_b > 0), (side_b > 0) & ~(side_a > 0)


def pole_coverage(fires_a: Booleans, fires_b: Booleans, labels: npt.NDArray[np.integer]) -> Statistic:
    """
    (share of A texts that fire for A + share of B texts that fire for B) / 2, for :func:`~.intervals.bootstrap`.

    1 is both poles covered everywhere. A non-negative latent has one side and cannot exceed 0.5.
    """

    def share(weights: Floats, fires: Booleans, pole: int) -> Floats:
        members = (labels == pole).astype(np.float64)
        total = weights @ members
        return np.divide(weights @ (members * fires), total, out=np.full(len(weights), np.nan), where=total > 0)

    return lambda weights: (share(weights, fires_a, 0) + share(weights, fires_b, 1)) / 2
