"""L2 logistic regression whose penalty is chosen on validation texts."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

Floats = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]
# inverse penalties, as scikit-learn has them, on standardised inputs
CS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True)
class LogisticProbe:
    """Called with features [n, d], gives the log-odds of pole B [n]; above 0 is called B."""

    weights: npt.NDArray[np.float64]
    """[d], for features as they come."""
    bias: float
    C: float
    """Inverse penalty, on features standardised over train; chosen on val."""

    def __call__(self, features: Floats) -> npt.NDArray[np.float64]:
        return features.astype(np.float64) @ self.weights + self.bias


def fit_logistic(train: tuple[Floats, Labels], val: tuple[Floats, Labels]) -> LogisticProbe:
    """
    Fit on ``train`` (features [n, d] and poles [n]) for each of ``CS``; keep the one of lowest log loss on ``val``.

    (AUROC would not do: of one latent it is the same for every penalty.) Features are standardised by the mean and
    standard deviation over train.
    """
    features, labels = train
    mean, spread = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    spread[spread == 0] = 1
    standardised = (features.astype(np.float64) - mean) / spread
    # each fit starts from the one before: from strong penalties to weak ones, little changes at a time
    model = LogisticRegression(max_iter=5000, tol=1e-4, warm_start=True)
    best: tuple[float, LogisticProbe] | None = None
    for C in sorted(CS):
        model.set_params(C=C).fit(standardised, labels)
        weights = model.coef_[0] / spread
        bias = np.ravel(model.intercept_)[0] - mean @ weights
        probe = LogisticProbe(weights, float(bias), C)
        loss = _log_loss(probe(val[0]), val[1])
        if best is None or loss < best[0]:
            best = loss, probe
    assert best is not None
    return best[1]


def _log_loss(log_odds: Floats, labels: Labels) -> float:
    """Mean negative log-likelihood (nats) of the poles."""
    return float(np.logaddexp(0, np.where(labels == 1, -log_odds, log_odds)).mean())
