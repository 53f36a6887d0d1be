"""Pairs whose preferences follow two of their axes and the length."""

from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from sae_lens_abstopk.pairs.preferences import Preferences

WEIGHTS = np.array([0, 0.9, 0, 0, 0, -0.5, 0, 0])
"""Log-odds of a preference for each unit of an axis."""
SHARES = np.geomspace(0.04, 0.35, len(WEIGHTS))
"""Share of the pairs on which an axis is active."""
LENGTH_AXIS = 4
"""Goes along with the length, and has no effect of its own."""
PAIRS_EACH = 4
"""Pairs of a component; their axes and their preferences are correlated."""


class Planted(NamedTuple):
    codes: np.ndarray
    log_length: np.ndarray
    components: np.ndarray
    preferred: np.ndarray

    def turned(self) -> Preferences:
        return Preferences.of(self.preferred, codes=self.codes, log_length=self.log_length, components=self.components)


def planted_pairs(rng: np.random.Generator, n_components: int) -> Planted:
    """Draw pairs, each in an order drawn by chance."""
    component = np.repeat(np.arange(n_components), PAIRS_EACH)
    n, n_axes = len(component), len(WEIGHTS)
    codes = rng.normal(size=(n, n_axes)) + 0.3 * rng.normal(size=(n_components, n_axes))[component]
    codes *= rng.random((n, n_axes)) < SHARES
    length = 1.4 * codes[:, LENGTH_AXIS] + 0.6 * rng.normal(size=n)
    chance = norm.cdf(np.sqrt(0.4) * rng.normal(size=n_components)[component] + np.sqrt(0.6) * rng.normal(size=n))
    preferred = np.where(chance < expit(_log_odds(codes, length)), 1.0, -1.0)
    order = rng.choice([-1.0, 1.0], n)
    return Planted(codes * order[:, None], length * order, component, preferred * order)


@cache
def planted_effects() -> np.ndarray:
    """Return the average marginal effect of a standard deviation of each axis, [axes], in very many pairs."""
    codes, length, _, _ = planted_pairs(np.random.default_rng(0), 50_000)
    first = expit(_log_odds(codes, length))
    return WEIGHTS * np.sqrt((codes**2).mean(0)) * (first * (1 - first)).mean()


def _log_odds(codes: np.ndarray, length: np.ndarray) -> np.ndarray:
    return codes @ WEIGHTS + 0.8 * length
