"""How well scores tell two poles apart: AUROC, exact with ties, pole coverage, accuracy, and all latents at once."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from sae_lens_abstopk.evaluation.results.bootstrap import Statistic

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]
# codes that are ranked at once: sorting takes some ten times their bytes
_SORTED_BYTES = 8 * 2**20
# of a latent that fires on no text, in the order of LatentScores
_SILENT = (0.5, 0.5, 0.5, 0.0, 0.0, 0.0)


def column_auroc(codes: npt.NDArray[np.float32], labellings: Sequence[npt.NDArray[np.integer]]) -> list[Floats]:
    """
    AUROC [3, d_sae] of z, of max(z, 0) and of max(-z, 0), for each column z of ``codes`` [n, d_sae] and each of
    ``labellings``: [n] in {0, 1}, both of which occur.

    (pairs in which the label-1 text is higher + 1/2 of tied pairs) / pairs: the Mann-Whitney statistic, from ranks that
    all labellings share, exact up to the last division. Takes some ten times the memory of ``codes``.
    """
    labels = np.stack(labellings).astype(np.float64)
    n_positive = labels.sum(1, keepdims=True)
    pairs = n_positive * (labels.shape[1] - n_positive)

    def of_ranks(ranks: Floats) -> Floats:
        return (labels @ ranks - n_positive * (n_positive + 1) / 2) / pairs

    n, above, below = len(codes), codes > 0, codes < 0
    ranks = rankdata(codes, axis=0)
    # a side keeps the ranks of its own firings; all other texts are tied at 0
    positive = np.where(above, ranks, (n - above.sum(0) + 1) / 2)
    negative = np.where(below, ranks, (below.sum(0) + 1 + n) / 2)
    return list(np.stack([of_ranks(ranks), of_ranks(positive), 1 - of_ranks(negative)], axis=1))


def auroc(scores: npt.ArrayLike, labels: npt.NDArray[np.integer]) -> float:
    """AUROC of ``scores`` [n] for ``labels`` [n] in {0, 1}."""
    return float(ResampledAUROC(np.asarray(scores), labels)(np.ones((1, len(labels))))[0])


class ResampledAUROC:
    """
    AUROC of one score under many weightings of its rows, for :func:`~.bootstrap.bootstrap`.

    Called with weights [resamples, n] (how often each row was drawn) it gives [resamples]; NaN if a label was not
    drawn. Sorts once.
    """

    def __init__(self, scores: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> None:
        self._order = np.argsort(scores, kind="stable")
        ranked = scores[self._order]
        self._starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        self._positive = labels[self._order].astype(np.float64)

    def __call__(self, weights: Floats, /) -> Floats:
        ranked = weights[:, self._order]
        positive = np.add.reduceat(ranked * self._positive, self._starts, axis=1)
        negative = np.add.reduceat(ranked * (1 - self._positive), self._starts, axis=1)
        below = np.cumsum(negative, axis=1) - negative / 2
        pairs = positive.sum(1) * negative.sum(1)
        return np.divide((positive * below).sum(1), pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def pole_coverage(fires_a: Booleans, fires_b: Booleans, labels: npt.NDArray[np.integer]) -> Statistic:
    """
    (share of A texts that fire for A + share of B texts that fire for B) / 2, for :func:`~.bootstrap.bootstrap`.

    1 is both poles covered everywhere. A non-negative latent has one side and cannot exceed 0.5.
    """

    def share(weights: Floats, fires: Booleans, pole: int) -> Floats:
        members = (labels == pole).astype(np.float64)
        total = weights @ members
        return np.divide(weights @ (members * fires), total, out=np.full(len(weights), np.nan), where=total > 0)

    return lambda weights: (share(weights, fires_a, 0) + share(weights, fires_b, 1)) / 2


def single_coverage(codes: npt.NDArray[np.floating], orientation: int, labels: npt.NDArray[np.integer]) -> Statistic:
    """Pole coverage of one latent with ``codes`` [n]; ``orientation`` +1: its positive side is for B."""
    return pole_coverage(orientation * codes < 0, orientation * codes > 0, labels)


def accuracy_threshold(scores: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> float:
    """The threshold on ``scores`` [n] above which calling B is right most often, half-way between two; or infinite."""
    order = np.argsort(scores, kind="stable")
    ranked, is_b = scores[order].astype(np.float64), labels[order] == 1
    # right answers with the threshold below all scores, then above each of them in turn
    right = np.r_[0, np.cumsum(np.where(is_b, -1, 1))] + is_b.sum()
    between = np.r_[True, ranked[1:] != ranked[:-1], True]  # equal scores are on one side
    best = int(np.argmax(np.where(between, right, -1)))
    edges = np.r_[-np.inf, (ranked[1:] + ranked[:-1]) / 2, np.inf]
    return float(edges[best])


@dataclass(frozen=True)
class LatentScores:
    """Scores of every latent on some texts; [d_sae] each."""

    auroc: Floats
    """AUROC of the code for pole B; below 0.5, its negative side goes with B."""
    positive_auroc: Floats
    """AUROC of max(z, 0)."""
    negative_auroc: Floats
    """AUROC of max(-z, 0)."""
    mean_difference: Floats
    """(mean over B - mean over A) / standard deviation over both; 0 for a latent that never varies."""
    coverage: Floats
    """Pole coverage with the positive side for B."""
    flipped_coverage: Floats
    """Pole coverage with the negative side for B."""

    @property
    def best(self) -> int:
        """The latent of largest |AUROC - 0.5|; among equals, of largest |mean difference|."""
        return int(np.lexsort((np.abs(self.mean_difference), np.abs(self.auroc - 0.5)))[-1])

    def strongest(self, k: int) -> list[int]:
        """The ``k`` latents of largest |mean difference|, strongest first, as in Gurnee et al. (2305.01610)."""
        return np.argsort(-np.abs(self.mean_difference), kind="stable")[:k].tolist()


def score_latents(
    chunks: Iterable[npt.NDArray[np.float32]], labellings: Sequence[npt.NDArray[np.integer]]
) -> list[LatentScores]:
    """
    Scores from ``chunks`` of columns [n, c] of codes, in order, for each of ``labellings``: the poles [n] of the texts.

    All labellings share one pass and one sort.
    """
    width = max(1, _SORTED_BYTES // (4 * len(labellings[0])))
    parts = [
        list(_score(chunk[:, start : start + width], labellings))
        for chunk in chunks
        for start in range(0, chunk.shape[1], width)
    ]
    return [
        LatentScores(*(np.concatenate(column) for column in zip(*part, strict=True)))
        for part in zip(*parts, strict=True)
    ]


def _score(
    codes: npt.NDArray[np.float32], labellings: Sequence[npt.NDArray[np.integer]]
) -> Iterator[tuple[Floats, ...]]:
    fires = np.asarray(codes.any(0))
    fires[:2] = True  # numpy rounds the sums of a single column in another order
    for scores in _score_firing(np.compress(fires, codes, axis=1), labellings):
        whole = [np.full(len(fires), silent) for silent in _SILENT]
        for column, found in zip(whole, scores, strict=True):
            column[fires] = found
        yield tuple(whole)


def _score_firing(
    codes: npt.NDArray[np.float32], labellings: Sequence[npt.NDArray[np.integer]]
) -> Iterator[tuple[Floats, ...]]:
    spread = codes.std(0, dtype=np.float64)
    for labels, aurocs in zip(labellings, column_auroc(codes, labellings), strict=True):
        a, b = codes[labels == 0], codes[labels == 1]
        difference = b.mean(0, dtype=np.float64) - a.mean(0, dtype=np.float64)
        standardised = np.divide(difference, spread, out=np.zeros_like(spread), where=spread > 0)
        coverage = ((a < 0).mean(0) + (b > 0).mean(0)) / 2
        flipped = ((a > 0).mean(0) + (b < 0).mean(0)) / 2
        yield *aurocs, standardised, coverage, flipped
