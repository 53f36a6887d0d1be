"""Probes on the activations themselves, without an SAE: difference in means, logistic regression, and a picture."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.decomposition import PCA
from typing_extensions import override

from sae_lens_abstopk.evaluation.probing.method_names import DIFFERENCE_IN_MEANS, LOGISTIC_REGRESSION
from sae_lens_abstopk.evaluation.probing.probe_score import (
    Candidate,
    Labelled,
    Rows,
    choose_and_test,
    logistic_candidate,
)
from sae_lens_abstopk.evaluation.results.records import PCARecord, ProbeRecord
from sae_lens_abstopk.model.representations import Representations
from sae_lens_abstopk.system.errors import ConfigError, require_given
from sae_lens_abstopk.system.shown import Facts, Shown

# rows of x in one step of the streaming fit and of the scores
_STEP = 1024


@dataclass(frozen=True, eq=False, repr=False)
class DifferenceInMeans(Shown):
    """
    A linear read-out along mean(B) - mean(A); called with x [..., d_in] it gives scores [...], higher towards pole B.

    All tensors are float64, on the device of the first activations, or on the CPU if the fitter was given ``d_in``.
    """

    direction: torch.Tensor
    """(mean_b - mean_a) / ||mean_b - mean_a||, [d_in]; zero if the means coincide."""
    mean_a: torch.Tensor
    mean_b: torch.Tensor
    threshold: float
    """Score half-way between the means, above which x is called B: direction . (mean_a + mean_b) / 2."""
    n: tuple[int, int]
    """Examples of pole A and of pole B."""

    @property
    def norm(self) -> float:
        """Distance between the means, in units of the activation."""
        return (self.mean_b - self.mean_a).norm().item()

    def __call__(self, x: torch.Tensor | np.ndarray) -> torch.Tensor:
        return torch.as_tensor(x).to(self.direction) @ self.direction

    @override
    def _facts(self) -> Facts:
        return [
            {
                "width": len(self.direction),
                "examples of A": self.n[0],
                "examples of B": self.n[1],
                "distance of the means": f"{self.norm:.4g}",
                "threshold": f"{self.threshold:.4g}",
            }
        ]


class DifferenceInMeansFitter:
    """
    Streams labelled activations into two float64 sums; ``.result`` is the fit so far.

    The width is ``d_in``, or that of the first batch::

        fitter = DifferenceInMeansFitter()
        for x, pole in batches:
            fitter.update(x, pole)
        scores = fitter.result(x_test)
    """

    def __init__(self, d_in: int | None = None) -> None:
        self.n = [0, 0]
        self._sums = None if d_in is None else torch.zeros(2, d_in, dtype=torch.float64)

    @torch.no_grad()
    def update(self, x: torch.Tensor | np.ndarray, pole: torch.Tensor | np.ndarray | int) -> Self:
        """
        Add activations x [n, d_in] with their poles [n] (0 is A, 1 is B), or with one pole for all.

        Raises:
            ConfigError: values that are NaN or infinite, or a pole that is neither 0 nor 1.
        """
        x, poles = torch.as_tensor(x), torch.as_tensor(pole)
        if not bool(x.isfinite().all() & ((poles == 0) | (poles == 1)).all()):
            raise ConfigError("x must be finite, and each pole 0 (A) or 1 (B); leave other rows out.")
        if self._sums is None:
            self._sums = torch.zeros(2, x.shape[1], dtype=torch.float64, device=x.device)
        for which in (0, 1):
            chosen = x[(poles.expand(len(x)) == which).to(x.device)]
            self._sums[which] += chosen.to(self._sums).sum(0)
            self.n[which] += len(chosen)
        return self

    @property
    def result(self) -> DifferenceInMeans:
        """The fit to everything seen; a ConfigError if a pole has no example yet."""
        for pole, n in zip("AB", self.n, strict=True):
            require_given(f"an example of pole {pole}", n, "update with examples of each")
        assert self._sums is not None
        mean_a, mean_b = self._sums[0] / self.n[0], self._sums[1] / self.n[1]
        difference = mean_b - mean_a
        direction = difference / difference.norm().clamp(min=torch.finfo(torch.float64).tiny)
        threshold = (direction @ (mean_a + mean_b)).item() / 2
        return DifferenceInMeans(direction, mean_a, mean_b, threshold, (self.n[0], self.n[1]))


@dataclass(frozen=True)
class ActivationProbes:
    """The probes on the activations of one pair of poles; the same for every SAE that reads them."""

    scores: dict[str, ProbeRecord]
    """By method."""
    difference_in_means: DifferenceInMeans
    C: float
    """Inverse penalty of the logistic regression, chosen on val."""


def probe_activations(representations: Representations, data: Labelled) -> ActivationProbes:
    """Fit on train, choose the read position (and the penalty) on val, measure on test."""
    x, reads = representations.x, representations.reads
    means, mean_score = choose_and_test([_means(representations, data, read) for read in reads], data)
    dense, dense_score = choose_and_test(
        [logistic_candidate(read, lambda rows, read=read: x(read, rows), data) for read in reads], data
    )
    scores = {DIFFERENCE_IN_MEANS: mean_score, LOGISTIC_REGRESSION: dense_score}
    return ActivationProbes(scores, means.chosen, dense.chosen.C)


def _means(representations: Representations, data: Labelled, read: str) -> Candidate[DifferenceInMeans]:
    def steps(rows: Rows) -> list[Rows]:
        return [rows[start : start + _STEP] for start in range(0, len(rows), _STEP)]

    fitter = DifferenceInMeansFitter(representations.d_in)
    for rows in steps(data.split.train):
        fitter.update(representations.x(read, rows), data.labels[rows])
    fit = fitter.result

    def score(rows: Rows) -> npt.NDArray[np.floating]:
        return np.concatenate([fit(representations.x(read, part)).numpy() for part in steps(rows)])

    return Candidate(read, score, fit)


def concept_pca(x: npt.NDArray[np.floating], pole: npt.NDArray[np.integer]) -> PCARecord:
    """
    The first two principal components (scikit-learn) of activations ``x`` [n, d_in] whose poles [n] are 0 and 1.

    The sign of a component is that of mean(B) - mean(A) along it.
    """
    x = x.astype(np.float64)
    # the full decomposition takes no random numbers, so the picture is the same each time
    pca = PCA(2, svd_solver="full").fit(x)
    difference = x[pole == 1].mean(0) - x[pole == 0].mean(0)
    components = pca.components_ * np.where(pca.components_ @ difference < 0, -1.0, 1.0)[:, None]
    coordinates = (x - pca.mean_) @ components.T
    return PCARecord(
        coordinates=coordinates.tolist(), labels=pole.tolist(), explained=pca.explained_variance_ratio_.tolist()
    )
