"""L2 logistic regression whose penalty is chosen on validation texts."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from sae_lens_abstopk.evaluation.probing.probe_score import Candidate, Labelled, Rows

Floats = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]
# inverse penalties, as scikit-learn has them, on standardised inputs
CS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True)
class LogisticProbe:
    """Called with features [n, d], gives the log-odds of pole B [n]; above 0 is called B."""

    weights: npt.NDArray[np.float64]
    """[d], for features that are not standardised."""
    bias: float
    C: float
    """Inverse penalty, on features standardised over train; chosen on val."""

    def __call__(self, features: Floats) -> npt.NDArray[np.float64]:
        return features.astype(np.float64) @ self.weights + self.bias


def fit_logistic(train: tuple[Floats, Labels], val: tuple[Floats, Labels]) -> LogisticProbe:
    """
    Fit on ``train`` (features [n, d] and poles [n]) for each of ``CS``; keep the one of lowest log loss on ``val``.

    (AUROC cannot choose: of one latent it is the same for every penalty.) Features are standardised over train.
    """
    features, labels = train
    mean, spread = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    spread[spread == 0] = 1
    standardised = (features.astype(np.float64) - mean) / spread
    # from strong penalties to weak ones, each fit starts near the one before
    model = LogisticRegression(max_iter=5000, tol=1e-4, warm_start=True)
    probes = []
    for C in CS:
        model.set_params(C=C).fit(standardised, labels)
        weights = model.coef_[0] / spread
        probes.append(LogisticProbe(weights, float(np.ravel(model.intercept_)[0] - mean @ weights), C))

    def loss_on_val(probe: LogisticProbe) -> float:
        log_odds = probe(val[0])
        return float(np.logaddexp(0, np.where(val[1] == 1, -log_odds, log_odds)).mean())

    return min(probes, key=loss_on_val)


def logistic_candidate(read: str, features: Callable[[Rows], Floats], data: Labelled) -> Candidate[LogisticProbe]:
    """The probe on ``features`` of rows, fitted to the train part of ``data``."""
    train, val = data.split.train, data.split.val
    probe = fit_logistic((features(train), data.of(train)), (features(val), data.of(val)))
    return Candidate(read, lambda rows: probe(features(rows)), probe)
