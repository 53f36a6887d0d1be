"""Logistic regression of preferences without an intercept, on pairs turned so that the preferred text comes first."""

import numpy as np
from jaxtyping import Float
from scipy.linalg import solve_triangular
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.model_selection import GroupKFold

PER_PAIR = (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5)
"""Penalties to choose from, per pair."""
FOLDS = 5


def root_mean_square(turned: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " d"]:
    """Return the scale of each column about 0, which does not depend on how pairs are turned; 1 for a zero column."""
    scale = np.sqrt(np.einsum("nd,nd->d", turned, turned, dtype=np.float64) / max(len(turned), 1))
    return np.where(scale > 0, scale, 1)


def fit_logistic(
    turned: Float[np.ndarray, "n d"],
    penalty: float,
    *,
    gram: Float[np.ndarray, "d d"],
    start: Float[np.ndarray, " d"] | None = None,
    tolerance: float = 1e-8,
) -> Float[np.ndarray, " d"]:
    """
    Return the weights w that minimise sum_i log(1 + exp(-x_i . w)) + penalty / 2 ||w||^2.

    ``gram`` is X'X. In the coordinates in which X'X / 4 + penalty, the largest Hessian, is the identity, L-BFGS takes
    some ten passes over X where it takes a hundred in the plain ones. ``tolerance`` is of the relative loss.
    """
    root = np.linalg.cholesky(gram / 4 + penalty * np.eye(len(gram)))

    def weights(point: np.ndarray) -> np.ndarray:
        return solve_triangular(root, point, lower=True, trans=1)

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        w = weights(point)
        margin = (turned @ w.astype(turned.dtype)).astype(np.float64)
        gradient = penalty * w - turned.T @ expit(-margin).astype(turned.dtype)
        value = np.logaddexp(0, -margin).sum() + penalty / 2 * (w @ w)
        return float(value), solve_triangular(root, gradient, lower=True)

    before = np.zeros(len(gram)) if start is None else root.T @ start
    with np.errstate(invalid="ignore"):  # OpenBLAS at times flags products of finite numbers (numpy issue 24067)
        found = minimize(loss, before, jac=True, method="L-BFGS-B", options={"ftol": tolerance, "gtol": 1e-8})
    return weights(found.x)


def fit_cross_validated(turned: Float[np.ndarray, "n d"], components: np.ndarray) -> Float[np.ndarray, " d"]:
    """
    Return weights for the columns of ``turned``, fitted to columns of scale 1.

    Of ``PER_PAIR``, the penalty is that of the lowest loss on left-out components; there are at least two.
    """
    scale = root_mean_square(turned)
    scaled = (turned / scale).astype(np.float32)
    gram = (scaled.T @ scaled).astype(np.float64)
    losses = np.zeros(len(PER_PAIR))
    folds = GroupKFold(min(FOLDS, len(np.unique(components))))
    for fitted, left_out in folds.split(scaled, groups=components):
        part, rest = scaled[fitted], scaled[left_out]
        part_gram, w = gram - rest.T @ rest, None
        for number, penalty in enumerate(PER_PAIR):  # from strong to weak: each fit starts near the one before
            w = fit_logistic(part, penalty * len(part), gram=part_gram, start=w, tolerance=1e-6)
            losses[number] += np.logaddexp(0, -(rest @ w)).sum()
    return fit_logistic(scaled, PER_PAIR[losses.argmin()] * len(scaled), gram=gram) / scale
