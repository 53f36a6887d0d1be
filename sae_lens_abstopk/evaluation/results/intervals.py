"""95 % bootstrap intervals that resample whole groups, so that near-copies of a text do not count as evidence."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

LEVEL = 0.95
# weights that are held at once
_CHUNK_BYTES = 32 * 2**20

Statistic = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
"""From weights [resamples, n] (how often each row was drawn) to values [resamples]; NaN where there is none."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % bootstrap interval."""

    value: float
    """On all rows."""
    low: float
    high: float
    n_units: int
    """Groups (rows, where there are none) that were resampled; an interval over a few says little."""

    def __str__(self) -> str:
        if self.low != self.low:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(
    statistic: Statistic,
    n: int,
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """
    Interval of ``statistic`` over ``n`` rows; one seed gives one set of resamples, whatever the statistic.

    Of few groups the 2.5th and the 97.5th percentile of the resamples lie too close together. The percentiles taken are
    further out, so that a mean has an interval about as wide as Student's: the expanded percentile interval of Hesterberg
    (arXiv 1411.5279). It stays inside the range of the statistic.

    Args:
        statistic: Called with the weights of many resamples at once.
        n: Rows.
        groups: The group of each row (template, document, prompt). Groups are drawn with replacement, as many as
            there are, and bring all their rows.
        resamples: How many are drawn. Those without a value (no row of one pole) are left out; if that is half of
            them or more, or none are drawn, or if those between the quantiles agree, the interval is NaN.
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
    low = high = np.nan
    # a bootstrap's standard error is too small by sqrt((n - 1) / n), and a normal quantile by what Student's is larger
    if n_units > 1 and len(found) > resamples / 2:
        tail = norm.cdf((n_units / (n_units - 1)) ** 0.5 * t.ppf((1 - LEVEL) / 2, n_units - 1))
        low, high = np.quantile(found, [tail, 1 - tail])
    if low == high:  # resamples that agree, as of a perfect score, do not tell how far another sample would be from it
        low = high = np.nan
    return Estimate(float(statistic(np.ones((1, n)))[0]), float(low), float(high), n_units)


def mean_estimate(
    values: npt.ArrayLike, *, groups: Sequence[Hashable] | None = None, resamples: int = 1000, seed: int = 0
) -> Estimate:
    """The mean of ``values`` [n] with its interval."""
    array = np.asarray(values, dtype=np.float64)
    return bootstrap(
        lambda weights: weights @ array / weights.sum(1), len(array), groups=groups, resamples=resamples, seed=seed
    )


def _numbered(groups: Sequence[Hashable]) -> npt.NDArray[np.int64]:
    """0, 1, ... in order of first appearance, so that the draws depend on no hash and no sort."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.int64)
