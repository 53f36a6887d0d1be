"""Scores of probes, chosen on val and measured on test, and L2 logistic regression on any features."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from sae_lens_abstopk.evaluation.probing.statistics import ResampledAUROC, accuracy_threshold, auroc
from sae_lens_abstopk.evaluation.results.bootstrap import Statistic, bootstrap, mean_estimate
from sae_lens_abstopk.evaluation.results.records import Interval, ProbeRecord
from sae_lens_abstopk.evaluation.tasks.task import TaskSplit
from sae_lens_abstopk.system.errors import ConfigError

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]
# inverse penalties, as scikit-learn has them, on standardised inputs
CS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
T = TypeVar("T")


@dataclass(frozen=True)
class Labelled:
    """Poles, groups and split of some texts, and the seed of random draws."""

    labels: npt.NDArray[np.int64]
    """0 for pole A, 1 for pole B, [n]."""
    split: TaskSplit
    groups: Sequence[Hashable] | None
    """Template or document of each text; None if each is its own."""
    seed: int
    resamples: int = 1000
    """For intervals; 0 gives only values."""

    @property
    def test_groups(self) -> list[Hashable] | None:
        """Groups of the test texts, in their order."""
        return None if self.groups is None else [self.groups[row] for row in self.split.test]

    def on_test(self, statistic: Statistic) -> Interval:
        """``statistic`` over the test texts with its interval."""
        n = len(self.split.test)
        return bootstrap(statistic, n, groups=self.test_groups, resamples=self.resamples, seed=self.seed)

    def permuted(self, number: int = 0) -> "Labelled":
        """Permutation ``number`` of the poles within each part of the split, for controls without intervals."""
        labels, generator = self.labels.copy(), np.random.default_rng([self.seed, number])
        for rows in self.split:
            labels[rows] = generator.permutation(labels[rows])
        return replace(self, labels=labels, resamples=0)

    def check(self) -> None:
        """Raise unless each part of the split has texts of both poles, and no group lies in two parts."""
        owner: dict[Hashable, str] = {}
        for name, rows in self.split._asdict().items():
            poles = sorted(set(self.labels[rows].tolist()))
            if poles != [0, 1]:
                part = f"the {name} part has {len(rows)} texts with poles {poles}"
                raise ConfigError(f"{part}; it needs both 0 (A) and 1 (B): give more groups, or another split seed.")
            for row in rows.tolist():
                group = row if self.groups is None else self.groups[row]
                if owner.setdefault(group, name) != name:
                    raise ConfigError(f"the text or group {group!r} is in {owner[group]} and {name}; split by group.")


@dataclass(frozen=True)
class Candidate(Generic[T]):
    """A method fitted on train at one read position."""

    read: str
    score: Callable[[Rows], npt.NDArray[np.floating]]
    """From row numbers to scores, higher for pole B."""
    chosen: T
    """The fitted latents, direction and weights."""


def choose_and_test(candidates: Sequence[Candidate[T]], data: Labelled) -> tuple[Candidate[T], ProbeRecord]:
    """The candidate of highest AUROC on val (the first among equals), and its score on test."""
    train, val, test = data.split
    val_aurocs = [auroc(candidate.score(val), data.labels[val]) for candidate in candidates]
    best = int(np.argmax(val_aurocs))
    candidate, labels = candidates[best], data.labels[test]
    on_train, on_test = candidate.score(train), candidate.score(test)
    correct = (on_test > accuracy_threshold(on_train, data.labels[train])) == (labels == 1)
    return candidate, ProbeRecord(
        read=candidate.read,
        train_auroc=auroc(on_train, data.labels[train]),
        val_auroc=val_aurocs[best],
        auroc=data.on_test(ResampledAUROC(on_test, labels)),
        accuracy=mean_estimate(correct, groups=data.test_groups, resamples=data.resamples, seed=data.seed),
    )


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
    probe = fit_logistic((features(train), data.labels[train]), (features(val), data.labels[val]))
    return Candidate(read, lambda rows: probe(features(rows)), probe)
