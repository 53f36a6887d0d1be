"""Probes on the activations themselves, without an SAE: difference in means and logistic regression."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sae_lens_abstopk.evaluation.probing.difference_in_means import DifferenceInMeans, DifferenceInMeansFitter
from sae_lens_abstopk.evaluation.probing.logistic_probe import fit_logistic
from sae_lens_abstopk.evaluation.probing.method_names import DIFFERENCE_IN_MEANS, LOGISTIC_REGRESSION
from sae_lens_abstopk.evaluation.probing.probe_score import Candidate, Labelled, Rows, choose_and_test
from sae_lens_abstopk.evaluation.results.records import ProbeRecord
from sae_lens_abstopk.model.representations import Representations

# rows of x in one step of the streaming fit and of the scores
_STEP = 1024


@dataclass(frozen=True)
class MeansProbe:
    """Difference in means of x."""

    direction: tuple[float, ...]
    """Unit vector from pole A to pole B, [d_in]."""
    norm: float
    """Distance between the means."""


@dataclass(frozen=True)
class ActivationProbes:
    """The probes on the activations of one pair of poles; the same for every SAE that reads them."""

    scores: dict[str, ProbeRecord]
    """By method."""
    difference_in_means: MeansProbe
    C: float
    """Inverse penalty of the logistic regression, chosen on val."""


def probe_activations(representations: Representations, data: Labelled) -> ActivationProbes:
    """Fit on train, choose the read position (and the penalty) on val, measure on test."""
    means, mean_score = choose_and_test([_means(representations, data, read) for read in representations.reads], data)
    dense, dense_score = choose_and_test([_dense(representations, data, read) for read in representations.reads], data)
    return ActivationProbes(
        scores={DIFFERENCE_IN_MEANS: mean_score, LOGISTIC_REGRESSION: dense_score},
        difference_in_means=MeansProbe(tuple(means.chosen.direction.tolist()), means.chosen.norm),
        C=dense.chosen,
    )


def _means(representations: Representations, data: Labelled, read: str) -> Candidate[DifferenceInMeans]:
    def steps(rows: Rows) -> list[Rows]:
        return [rows[start : start + _STEP] for start in range(0, len(rows), _STEP)]

    fitter = DifferenceInMeansFitter(representations.d_in)
    for rows in steps(data.split.train):
        fitter.update(representations.x(read, rows), data.of(rows))
    fit = fitter.result

    def score(rows: Rows) -> npt.NDArray[np.floating]:
        return np.concatenate([fit(representations.x(read, part)).numpy() for part in steps(rows)])

    return Candidate(read, score, fit)


def _dense(representations: Representations, data: Labelled, read: str) -> Candidate[float]:
    def x(rows: Rows) -> npt.NDArray[np.float32]:
        return representations.x(read, rows)

    train, val = data.split.train, data.split.val
    probe = fit_logistic((x(train), data.of(train)), (x(val), data.of(val)))
    return Candidate(read, lambda rows: probe(x(rows)), probe.C)
