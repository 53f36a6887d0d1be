"""The effect of each axis on which text is preferred, all axes and the length held equal."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit
from scipy.stats import false_discovery_control, t

from sae_lens_abstopk.evaluation.results.bootstrap import LEVEL
from sae_lens_abstopk.evaluation.results.records import Interval
from sae_lens_abstopk.pairs.logistic import fit_logistic, root_mean_square
from sae_lens_abstopk.pairs.pair_results import FALSE_DISCOVERIES
from sae_lens_abstopk.pairs.preferences import Preferences

FEWEST_COMPONENTS = 20
"""An axis that is active in fewer components has no interval: its standard error would be too small."""
# a normal prior of standard deviation 1 on the weights: negligible, but bounds those of axes that separate all pairs
_PENALTY = 1.0


class Effects(NamedTuple):
    """Average marginal effects, one an axis."""

    effects: list[Interval]
    """Change of the probability that a text is preferred, per standard deviation of the code."""
    p: Float[np.ndarray, " F"]
    """NaN where there is no interval."""
    q: Float[np.ndarray, " F"]
    """Benjamini-Hochberg over the axes."""

    def confirmed_by(self, held_out: "Effects") -> Bool[np.ndarray, " F"]:
        """Return the axes with q <= 5 % here whose interval on other pairs is on the same side of 0."""
        return (self.q <= FALSE_DISCOVERIES) & (_side(self) == _side(held_out))


def preference_effects(pairs: Preferences) -> Effects:
    """
    Measure effects in a logistic regression on the codes of all axes and the difference of the log lengths.

    With columns x of root mean square 1, P(preferred first) = sigma(x . w) without an intercept, since which text is
    first means nothing. The effect of an axis is w_j mean(sigma'(x . w)).

    Its error is the root of the sum of squared influences of components of shared prompts. This is the sandwich
    covariance of w through the delta method, with the errors of the mean and of the scale of the column added: without
    the last, intervals of effects of seldom active axes are too short. Intervals and p-values are those of Student's t
    on (components - columns) degrees of freedom.
    """
    columns = np.column_stack([pairs.codes, pairs.log_length]).astype(np.float64)
    x = columns / root_mean_square(columns)
    w = fit_logistic(x, _PENALTY, gram=x.T @ x, tolerance=1e-13)
    first = expit(x @ w)
    slope = first * (1 - first)
    bread = np.linalg.inv((x.T * slope) @ x + _PENALTY * np.eye(len(w)))
    jacobian = slope.mean() * np.eye(len(w)) + np.outer(w, (slope * (1 - 2 * first)) @ x / len(x))
    influence = ((1 - first)[:, None] * x) @ bread @ jacobian.T
    influence += w * ((slope - slope.mean())[:, None] + slope.mean() * (x**2 - 1) / 2) / len(x)
    seen = (pairs.by_component(x != 0) > 0).sum(0)
    spare = pairs.n_components - int((seen > 0).sum())
    error = np.sqrt((pairs.by_component(influence) ** 2).sum(0) * (pairs.n_components / spare if spare > 0 else np.nan))
    error[seen < FEWEST_COMPONENTS] = np.nan
    effect = np.where(seen > 0, w * slope.mean(), np.nan)
    half = t.ppf((1 + LEVEL) / 2, max(spare, 1)) * error
    p = 2 * t.sf(np.abs(effect) / error, max(spare, 1))[:-1]
    intervals = [
        Interval(value=value, low=value - half, high=value + half, n_units=n)
        for value, half, n in zip(effect.tolist(), half.tolist(), seen.tolist(), strict=True)
    ]
    return Effects(intervals[:-1], p, false_discovery(p))


def false_discovery(p: Float[np.ndarray, " F"]) -> Float[np.ndarray, " F"]:
    """Return the Benjamini-Hochberg q-values of ``p``; NaN stays NaN and is not counted."""
    q, known = np.full(len(p), np.nan), ~np.isnan(p)
    q[known] = false_discovery_control(p[known])
    return q


def _side(effects: Effects) -> Float[np.ndarray, " F"]:
    """Return the sign of each effect, 0 where its interval has 0 in it or is missing."""
    ends = [(each.low, each.high) for each in effects.effects]
    return np.array([0.0 if low is None or high is None or low <= 0 <= high else np.sign(low) for low, high in ends])
