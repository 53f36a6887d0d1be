"""Area under the ROC curve, exact with ties: of tens of thousands of columns at once, and of resamples of one score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata


@dataclass(frozen=True)
class ColumnAUROC:
    """AUROC of each column of codes for pole B (label 1): 0.5 is chance, and what a constant column has."""

    signed: npt.NDArray[np.float64]
    """Of z itself, [d_sae]."""
    positive: npt.NDArray[np.float64]
    """Of max(z, 0), the positive side alone."""
    negative: npt.NDArray[np.float64]
    """Of max(-z, 0), the negative side alone."""


def column_auroc(codes: npt.NDArray[np.float32], labellings: Sequence[npt.NDArray[np.integer]]) -> list[ColumnAUROC]:
    """
    AUROC of every column of ``codes`` [n, d_sae], for each of ``labellings``: [n] in {0, 1}, both of which occur.

    (pairs in which the label-1 text is higher + 1/2 of tied pairs) / pairs: the Mann-Whitney statistic, from ranks that
    all labellings share, exact up to the last division. Memory is some ten times that of ``codes``, so hand over columns
    in chunks.

    Raises:
        ValueError: a label does not occur.
    """
    labels = np.stack([_checked(labels) for labels in labellings]).astype(np.float64)
    n_positive = labels.sum(1, keepdims=True)
    pairs = n_positive * (labels.shape[1] - n_positive)

    def of_ranks(ranks: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return (labels @ ranks - n_positive * (n_positive + 1) / 2) / pairs

    n, above, below = len(codes), codes > 0, codes < 0
    ranks = rankdata(codes, axis=0)
    # a side keeps the ranks of its own firings, and all other texts are tied at 0: below the positive ones, above the negative
    positive = np.where(above, ranks, (n - above.sum(0) + 1) / 2)
    negative = np.where(below, ranks, (below.sum(0) + 1 + n) / 2)
    sides = of_ranks(ranks), of_ranks(positive), 1 - of_ranks(negative)
    return [ColumnAUROC(*aurocs) for aurocs in zip(*sides, strict=True)]


def auroc(scores: npt.ArrayLike, labels: npt.NDArray[np.integer]) -> float:
    """AUROC of ``scores`` [n] for ``labels`` [n] in {0, 1}."""
    return float(ResampledAUROC(np.asarray(scores), labels)(np.ones((1, len(labels))))[0])


class ResampledAUROC:
    """
    AUROC of one score under many weightings of its rows, for :func:`~.intervals.bootstrap`.

    Called with weights [resamples, n] (how often each row was drawn) it gives [resamples]; NaN where a label was not
    drawn. Sorts once.
    """

    def __init__(self, scores: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> None:
        labels = _checked(labels)
        self._order = np.argsort(scores, kind="stable")
        ranked = scores[self._order]
        self._starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        self._positive = labels[self._order].astype(np.float64)

    def __call__(self, weights: npt.NDArray[np.float64], /) -> npt.NDArray[np.float64]:
        ranked = weights[:, self._order]
        positive = np.add.reduceat(ranked * self._positive, self._starts, axis=1)
        negative = np.add.reduceat(ranked * (1 - self._positive), self._starts, axis=1)
        below = np.cumsum(negative, axis=1) - negative / 2
        pairs = positive.sum(1) * negative.sum(1)
        return np.divide((positive * below).sum(1), pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def _checked(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    found = np.unique(labels)
    if found.tolist() != [0, 1]:
        raise ValueError(f"labels must hold both 0 and 1 and nothing else; they hold {found.tolist()[:5]}.")
    return labels.astype(np.int64)
