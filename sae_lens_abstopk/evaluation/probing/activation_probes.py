"""Probes on the activations themselves, without an SAE: difference in means, logistic regression, and a picture."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA

from sae_lens_abstopk.evaluation.probing.difference_in_means import DifferenceInMeans, DifferenceInMeansFitter
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

# rows of x in one step of the streaming fit and of the scores
_STEP = 1024


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
