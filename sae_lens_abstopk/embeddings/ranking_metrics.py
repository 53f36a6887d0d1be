"""Metrics of rankings against judged documents: nDCG@10, recall@100 and MRR@10, as trec_eval computes them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

CUT, DEEP_CUT = 10, 100
"""Documents that nDCG and MRR look at, and recall."""

Relevant = Mapping[int, float]
"""Relevance, above 0, of the relevant documents of one query, by number."""


class RankingMetrics(NamedTuple):
    """Metrics of each query, each [queries]."""

    ndcg_at_10: npt.NDArray[np.float64]
    """DCG / best DCG, with DCG = sum over ranks 1 to 10 of relevance / log2(rank + 1)."""
    recall_at_100: npt.NDArray[np.float64]
    """Share of the relevant documents among the first 100."""
    mrr_at_10: npt.NDArray[np.float64]
    """1 / rank of the first relevant document, 0 if it is not among the first 10."""


def ranking_metrics(documents: npt.NDArray[np.int64], relevant: Sequence[Relevant]) -> RankingMetrics:
    """Measure rankings [queries, top] of document numbers, best first; each query needs a relevant document."""
    rows = [_of_query(found, judged) for found, judged in zip(documents.tolist(), relevant, strict=True)]
    return RankingMetrics(*np.array(rows).T)


def _of_query(found: Sequence[int], judged: Relevant) -> tuple[float, float, float]:
    gains = [judged.get(document, 0) for document in found[:DEEP_CUT]]
    best = sorted(judged.values(), reverse=True)
    first = next((rank for rank, gain in enumerate(gains[:CUT], start=1) if gain), None)
    return (
        _dcg(gains) / _dcg(best),
        sum(gain > 0 for gain in gains) / len(best),
        1 / first if first else 0.0,
    )


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / np.log2(rank + 1) for rank, gain in enumerate(gains[:CUT], start=1))
