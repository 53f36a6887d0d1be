"""95 % bootstrap intervals that resample whole groups, so that near-copies of a text do not count as evidence."""

from collections.abc import Callable, Hashable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

from sae_lens_abstopk.evaluation.results.interval import Interval

LEVEL = 0.95
_CHUNK_BYTES = 32 * 2**20

Statistic = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
"""From weights [resamples, n] (how often each row was drawn) to values [resamples]; NaN where undefined."""


def bootstrap(
    statistic: Statistic,
    n: int,
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """
    Interval of ``statistic`` over ``n`` rows; one seed draws the same resamples for every statistic.

    With few groups the 2.5th and the 97.5th percentile of the resamples lie too close together, so percentiles further
    out are taken and a mean gets an interval about as wide as Student's: the expanded percentile interval of
    Hesterberg (arXiv 1411.5279). It stays inside the range of the statistic.

    Args:
        statistic: Called with the weights of many resamples at once.
        n: Rows.
        groups: The group of each row (template, document, prompt). Groups are drawn with replacement, as many as
            there are, and bring all their rows.
        resamples: How many are drawn. Those without a value (no row of one pole) are left out. There is no interval if
            half or more have no value, if none are drawn, or if the quantiles are equal.
        seed: Of the draws.

    Raises:
        ValueError: there are no rows, or not one group a row.
    """
    if n < 1 or resamples < 0 or (groups is not None and len(groups) != n):
        raise ValueError(f"needs rows, resamples and one group a row: {n=}, {resamples=}, {groups and len(groups)=}.")
    unit = np.arange(n) if groups is None else _numbered(groups)
    n_units = int(unit.max()) + 1
    generator = np.random.default_rng(seed)
    per_chunk = max(1, _CHUNK_BYTES // (8 * n))
    values: list[npt.NDArray[np.float64]] = []
    for start in range(0, resamples, per_chunk):
        size = min(per_chunk, resamples - start)
        drawn = generator.multinomial(n_units, np.full(n_units, 1 / n_units), size=size)
        values.append(statistic(drawn.astype(np.float64)[:, unit]))
    found = np.concatenate(values or [np.empty(0)])
    found = found[~np.isnan(found)]
    low = high = None
    # a bootstrap's standard error is too small by sqrt((n - 1) / n), and a normal quantile by what Student's is larger
    if n_units > 1 and len(found) > resamples / 2:
        tail = norm.cdf((n_units / (n_units - 1)) ** 0.5 * t.ppf((1 - LEVEL) / 2, n_units - 1))
        low, high = np.quantile(found, [tail, 1 - tail]).tolist()
    if low == high:  # equal resamples, as of a perfect score, do not say how far another sample would be from it
        low = high = None
    return Interval(value=float(statistic(np.ones((1, n)))[0]), low=low, high=high, n_units=n_units)


def mean_estimate(
    values: npt.ArrayLike, *, groups: Sequence[Hashable] | None = None, resamples: int = 1000, seed: int = 0
) -> Interval:
    """The mean of ``values`` [n] with its interval."""
    array = np.asarray(values, dtype=np.float64)
    return bootstrap(
        lambda weights: weights @ array / weights.sum(1), len(array), groups=groups, resamples=resamples, seed=seed
    )


def _numbered(groups: Sequence[Hashable]) -> npt.NDArray[np.int64]:
    """0, 1, ... in order of first appearance, so that the draws depend on no hash and no sort."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.int64)
