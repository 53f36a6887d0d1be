"""Search in blocks finds what the dense product ranks first; metrics are those of scikit-learn and of a hand."""

import numpy as np
import pytest
from scipy.sparse import csr_array, random_array
from sklearn.metrics import ndcg_score

from sae_lens_abstopk.embeddings import search
from sae_lens_abstopk.embeddings.ranking_metrics import ranking_metrics
from sae_lens_abstopk.embeddings.search import Matrix, rank, row_blocks, scores

RNG = np.random.default_rng(0)


def plain_ranking(queries: Matrix, documents: Matrix, top: int) -> np.ndarray:
    """The reference: sort all scores; of equal ones, the earlier document first."""
    return np.argsort(-scores(queries, documents), axis=1, kind="stable")[:, :top]


def sparse(rows: int) -> csr_array:
    # few levels and few entries, so that many scores are equal, zero or negative
    return csr_array(
        random_array((rows, 40), density=0.1, rng=RNG, data_sampler=lambda size: RNG.integers(-3, 4, size))
    )


def dense(rows: int) -> np.ndarray:
    return RNG.integers(-2, 3, (rows, 8)).astype(np.float32)


@pytest.mark.parametrize("make", [sparse, dense])
@pytest.mark.parametrize("size", [7, 300])
def test_blocks_find_what_the_whole_product_ranks_first(make, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "QUERIES", 5)
    monkeypatch.setattr(search, "DOCUMENTS", 64)
    queries, documents = make(23).astype(np.float32), make(250).astype(np.float32)
    found = rank(queries, row_blocks(documents, size), top=100)
    expected = plain_ranking(queries, documents, 100)
    assert np.array_equal(found, expected)
    assert np.array_equal(rank(queries, documents), expected)


def test_fewer_documents_than_asked_for_are_all_ranked() -> None:
    queries, documents = RNG.normal(size=(3, 4)).astype(np.float32), RNG.normal(size=(6, 4)).astype(np.float32)
    assert np.array_equal(rank(queries, documents), plain_ranking(queries, documents, 6))


def test_ndcg_is_that_of_scikit_learn() -> None:
    truth = RNG.integers(0, 4, (20, 150)) * (RNG.random((20, 150)) < 0.1)
    truth[:, 7] = 1  # a relevant document for every query
    found = np.stack([RNG.permutation(150) for _ in truth])[:, :100]
    predicted = np.zeros(truth.shape)
    np.put_along_axis(predicted, found, np.arange(100, 0, -1)[None], axis=1)
    relevant = [{number: float(gain) for number, gain in enumerate(row) if gain} for row in truth]
    metrics = ranking_metrics(found, relevant)
    for number in range(len(truth)):
        expected = ndcg_score(truth[number][None], predicted[number][None], k=10)
        assert metrics.ndcg_at_10[number] == pytest.approx(expected)


def test_recall_and_mrr_by_hand() -> None:
    found = np.stack([np.arange(100), np.arange(100), np.arange(100)])
    relevant = [{3: 1.0, 99: 2.0, 500: 1.0, 501: 1.0}, {10: 1.0}, {600: 1.0}]
    metrics = ranking_metrics(found, relevant)
    assert metrics.recall_at_100.tolist() == [0.5, 1.0, 0.0]
    assert metrics.mrr_at_10.tolist() == [0.25, 0.0, 0.0]
    assert metrics.ndcg_at_10.tolist()[1:] == [0.0, 0.0]
