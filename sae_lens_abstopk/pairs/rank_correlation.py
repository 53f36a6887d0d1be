"""
Rank correlation of pairs, which does not depend on which text is A.

This is Spearman's with each pair counted in both orders. With signed ranks r(x) = sign(x) (rank of |x| - 1/2), it is
sum r(x) r(y) / sqrt(sum r(x)^2 sum r(y)^2), and the partial one is that of what remains of r(x) and r(y) after a
regression without intercept on other signed ranks.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from scipy.stats import rankdata, t

from sae_lens_abstopk.evaluation.results.bootstrap import bootstrap
from sae_lens_abstopk.evaluation.results.records import Interval


class Correlations(NamedTuple):
    """Correlations of M columns with a code."""

    rho: Float[np.ndarray, " M"]
    error: Float[np.ndarray, " M"]
    """Standard error if the pairs of a unit are not independent, and there is no correlation."""


def signed_ranks(values: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n ..."]:
    """Rank absolute values of each column, and give them back their signs."""
    return np.sign(values) * (rankdata(np.abs(values), axis=0) - 0.5)


def correlations(
    code: Float[np.ndarray, " n"], columns: Float[np.ndarray, "n M"], units: Int[np.ndarray, " n"]
) -> Correlations:
    """
    Correlate signed ranks without a mean; 0 for a column of zeros.

    Under no correlation, the products of a unit have either sign alike: the error is the root of their sum of squares.
    """
    scale = np.sqrt((code**2).sum() * (columns**2).sum(0))
    shape = (int(units.max(initial=-1)) + 1, len(code))
    products = csr_array((code, (units, np.arange(len(code)))), shape=shape) @ columns
    rho, error = (
        np.divide(each, scale, out=np.zeros(len(scale)), where=scale > 0)
        for each in (products.sum(0), np.sqrt((products**2).sum(0)))
    )
    return Correlations(rho, error)


def without(columns: Float[np.ndarray, "n M"], others: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n M"]:
    """Return what a regression on ``others`` does not explain of each column."""
    return columns - others @ np.linalg.lstsq(others, columns, rcond=None)[0]


def correlation_interval(
    code: Float[np.ndarray, " n"], said: Float[np.ndarray, " n"], units: Int[np.ndarray, " n"], *, seed: int
) -> tuple[Interval, float]:
    """
    Correlate the signed ranks of a code with those of what a name says; intervals resample units.

    Returns also the two-sided p-value: Student's t of the correlation by its error under no correlation.
    """
    x, y = signed_ranks(code), signed_ranks(said)
    product, of_x, of_y = x * y, x**2, y**2

    def statistic(weights: np.ndarray) -> np.ndarray:
        scale = np.sqrt((weights @ of_x) * (weights @ of_y))
        return np.divide(weights @ product, scale, out=np.full(len(scale), np.nan), where=scale > 0)

    interval = bootstrap(statistic, len(code), groups=units.tolist(), seed=seed)
    unit = np.unique(units, return_inverse=True)[1]
    found = correlations(x, y[:, None], unit)
    spare = int(unit.max()) if len(unit) else 0
    if found.error[0] == 0 or spare < 1:
        return interval, 1.0
    return interval, float(2 * t.sf(abs(found.rho[0]) / found.error[0], spare))
