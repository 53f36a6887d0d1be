"""A tiny sentence-transformers model, made once."""

import pytest
from sentence_transformers import SentenceTransformer

from tests.embeddings.sentence_model import sentence_model


@pytest.fixture(scope="session")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformer:
    return sentence_model(tmp_path_factory.mktemp("embedder"))
