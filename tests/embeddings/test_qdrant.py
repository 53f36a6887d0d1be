"""Qdrant's local mode as an inverted index of signed codes."""

from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer

from tests.docs.test_pages import blocks
from tests.embeddings.sentence_model import TEXTS
from tests.embeddings.test_signed_sparse_auto_encoder import centred, encoder

SNIPPET = next(code for _, code in blocks("embeddings") if "qdrant_client" in code)


@pytest.mark.parametrize("limit", [10, 1000])
def test_qdrant_returns_the_order_of_the_exact_products(embedder: SentenceTransformer, limit: int) -> None:
    model, texts, least = encoder(embedder, centred(embedder)), TEXTS[10:], 0.0
    y = model.encode(texts).to_dense()
    for query in TEXTS[:10]:
        scope: dict[str, Any] = {"model": model, "texts": texts, "query": query}
        exec(SNIPPET.replace("limit=10", f"limit={limit}"), scope)
        x = model.encode(query).to_dense()
        # texts that share no latent with the query are not found
        exact = (y @ x).where((y * x != 0).any(1), -torch.inf)
        order = exact.argsort(descending=True)[: min(limit, int(exact.isfinite().sum()))]
        assert [point.id for point in scope["found"]] == order.tolist()
        scores = torch.tensor([point.score for point in scope["found"]])
        torch.testing.assert_close(scores, exact[order], rtol=1e-5, atol=1e-4)
        least = min(least, scores.min().item())
    assert limit == 10 or least < 0
