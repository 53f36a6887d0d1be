"""95 % bootstrap intervals that resample whole groups, because near-copies of a text are not independent."""

from collections.abc import Callable, Hashable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.stats import norm, t

from sae_lens_abstopk.evaluation.results.records import Interval

LEVEL = 0.95
_CHUNK_BYTES = 32 * 2**20
"""Most bytes of the weights in a chunk of resamples."""

Statistic = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
"""Function from weights [resamples, n] (draws of each row) to values [resamples]; NaN if undefined."""


def bootstrap(
    statistic: Statistic,
    n: int,
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """
    Return the interval of ``statistic`` over ``n`` rows; one seed draws the same resamples for every statistic.

    This is the expanded percentile interval of Hesterberg (arXiv 1411.5279): with few groups the 2.5th and 97.5th
    percentiles are too close together, so it takes percentiles further out, and a mean gets an interval about as wide
    as Student's. It stays inside the range of the statistic.

    Args:
        statistic: Called with the weights of many resamples at once.
        groups: The group of each row (template, document, prompt). Groups are drawn with replacement, as many as
            there are, and bring all their rows.
        resamples: Number of draws. Those without a value (no row of one pole) are left out. There is no interval if
            half or more have no value, if there are none, or if the quantiles are equal.

    Raises:
        ValueError: there are no rows, or not one group per row.
    """
    if n < 1 or resamples < 0 or (groups is not None and len(groups) != n):
        raise ValueError(f"needs rows, resamples and one group a row: {n=}, {resamples=}, {groups and len(groups)=}.")
    unit = _units(n, groups)
    n_units = int(unit.max()) + 1
    draws = _draws(n_units, resamples, seed, row_bytes=8 * n)
    return _interval(np.concatenate([statistic(drawn[:, unit]) for drawn in draws]), n_units)


def mean_estimate(
    values: npt.ArrayLike, *, groups: Sequence[Hashable] | None = None, resamples: int = 1000, seed: int = 0
) -> Interval:
    """Return the mean of ``values`` [n] with its interval."""
    array = np.asarray(values, dtype=np.float64)
    return bootstrap(
        lambda weights: weights @ array / weights.sum(1), len(array), groups=groups, resamples=resamples, seed=seed
    )


def ratio_estimates(
    numerators: npt.ArrayLike,
    denominators: npt.ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Interval]:
    """
    Return the sum of each column of ``numerators`` over that of ``denominators``, with its interval; both [n, columns].

    Denominators are at least 0, and ``n_units`` are the groups in which they are above 0: only those inform a column.
    """
    above, below = (np.asarray(each, dtype=np.float64) for each in (numerators, denominators))
    unit = _units(len(above), groups)
    n_units = int(unit.max(initial=-1)) + 1
    by_unit = csr_array((np.ones(len(unit)), (unit, np.arange(len(unit)))), shape=(n_units, len(unit)))
    above, below = by_unit @ above, by_unit @ below

    def ratios(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        total = weights @ below
        return np.divide(weights @ above, total, out=np.full(total.shape, np.nan), where=total > 0)

    draws = _draws(n_units, resamples, seed, row_bytes=8 * n_units)
    columns = np.concatenate([ratios(drawn) for drawn in draws]).T
    return [_interval(*each) for each in zip(columns, (below > 0).sum(0).tolist(), strict=True)]


def _draws(n_units: int, resamples: int, seed: int, *, row_bytes: int) -> Iterator[npt.NDArray[np.float64]]:
    """Yield how often each unit is drawn, [draws, n_units], in chunks: first in the sample, then in each resample."""
    yield np.ones((1, n_units))
    generator = np.random.default_rng(seed)
    per_chunk = max(1, _CHUNK_BYTES // row_bytes)
    for start in range(0, resamples, per_chunk):
        size = min(per_chunk, resamples - start)
        yield generator.multinomial(n_units, np.full(n_units, 1 / n_units), size=size).astype(np.float64)


def _interval(values: npt.NDArray[np.float64], n_units: int) -> Interval:
    """Return the expanded percentile interval of a statistic with these values on the sample and its resamples."""
    found = values[1:][~np.isnan(values[1:])]
    low = high = None
    # a bootstrap's standard error is too small by sqrt((n - 1) / n), and a normal quantile is below Student's
    if n_units > 1 and 2 * len(found) > len(values) - 1:
        tail = norm.cdf((n_units / (n_units - 1)) ** 0.5 * t.ppf((1 - LEVEL) / 2, n_units - 1))
        low, high = np.quantile(found, [tail, 1 - tail]).tolist()
    if low == high:  # equal resamples, as with a perfect score, say nothing about other samples
        low = high = None
    return Interval(value=float(values[0]), low=low, high=high, n_units=n_units)


def _units(n: int, groups: Sequence[Hashable] | None) -> npt.NDArray[np.int64]:
    """Number the groups of ``n`` rows by first appearance, so that draws depend on neither hashes nor sorting."""
    if groups is None:
        return np.arange(n)
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.int64)
