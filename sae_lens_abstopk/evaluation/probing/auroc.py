"""Area under the ROC curve, exact with ties: of tens of thousands of columns at once, and of resamples of one score."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# floats as whole numbers of the same order: bits of a negative float count downwards
_MAGNITUDE_BITS = np.int32(0x7FFFFFFF)
# bits below those of a float in a sort key of 64, one a labelling
_LABEL_BITS = 31


@dataclass(frozen=True)
class ColumnAUROC:
    """AUROC of each column of codes for pole B (label 1): 0.5 is chance, and what a constant column has."""

    signed: npt.NDArray[np.float64]
    """Of z itself, [d_sae]."""
    positive: npt.NDArray[np.float64]
    """Of max(z, 0), the positive side alone."""
    negative: npt.NDArray[np.float64]
    """Of max(-z, 0), the negative side alone."""


def column_auroc(
    codes: npt.NDArray[np.float32], labellings: Sequence[npt.NDArray[np.integer]]
) -> Iterator[ColumnAUROC]:
    """
    AUROC of every column of ``codes`` [n, d_sae], for each of ``labellings``: [n] in {0, 1}, both of which occur.

    (pairs in which the label-1 text is higher + 1/2 of tied pairs) / pairs: the Mann-Whitney statistic, in whole
    numbers up to the last division. One sort a column serves all labellings, and both sides too, as clamping keeps the
    order. Memory is some ten times that of ``codes``, so hand over columns in chunks.

    Raises:
        ValueError: a label does not occur.
    """
    if len(labellings) > _LABEL_BITS:
        for start in range(0, len(labellings), _LABEL_BITS):
            yield from column_auroc(codes, labellings[start : start + _LABEL_BITS])
        return
    checked = [_checked(labels) for labels in labellings]
    # Adding 0 turns -0.0, which masked codes are full of, into 0.0: they must tie.
    bits = np.ascontiguousarray((codes.astype(np.float32, copy=False) + np.float32(0)).T).view(np.int32)
    ordered = np.where(bits < 0, bits ^ _MAGNITUDE_BITS, bits).astype(np.int64)
    carried = sum(labels << place for place, labels in enumerate(checked))
    keys = np.sort((ordered << len(checked)) + carried, axis=1)
    values = keys >> len(checked)
    for place in range(len(checked)):
        positives = np.cumsum((keys >> place) & 1, axis=1)
        yield ColumnAUROC(
            signed=_from_sorted(values, positives),
            positive=_from_sorted(np.maximum(values, 0), positives),
            negative=1 - _from_sorted(np.minimum(values, 0), positives),
        )


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


def _from_sorted(values: npt.NDArray[np.int64], positives: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """AUROC of rows [columns, n] in rising order, given the running count of label 1 along them."""
    n = values.shape[1]
    is_last = np.ones(values.shape, dtype=np.bool_)
    np.not_equal(values[:, 1:], values[:, :-1], out=is_last[:, :-1])
    # one entry a run of ties; the first run of a column starts from nothing
    column, place = np.nonzero(is_last)
    above = positives[column, place]
    below = place + 1 - above
    starts = np.flatnonzero(np.r_[True, column[1:] != column[:-1]])
    above_before, below_before = _shifted(above, starts), _shifted(below, starts)
    twice = np.add.reduceat((above - above_before) * (below + below_before), starts)
    n_positive = positives[:, -1]
    return twice / (2 * n_positive * (n - n_positive))


def _shifted(counts: npt.NDArray[np.int64], starts: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
    before = np.r_[0, counts[:-1]]
    before[starts] = 0
    return before
