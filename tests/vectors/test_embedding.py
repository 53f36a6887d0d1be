"""Embedded texts: the rows of sentence-transformers, cached by content, and continued after an interruption."""

import importlib.util
import io
import json
import os
from pathlib import Path

import pytest
import torch
from rich.console import Console
from sentence_transformers import SentenceTransformer

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.system import precision
from sae_lens_abstopk.vectors import embedding
from sae_lens_abstopk.vectors.embedding import embedded
from sae_lens_abstopk.vectors.row_cache import embeddings_folder
from sae_lens_abstopk.vectors.vector_spec import VectorSpec
from tests.sentence_model import D_IN, WORDS, save_sentence_model

N = 50
TEXTS = ["", "  ", *(" ".join(WORDS[(i + j) % len(WORDS)] for j in range(i % 7 + 1)) for i in range(N - 2))]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_sentence_model(tmp_path_factory.mktemp("sentence")))


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VectorSpec:
    """Texts with labels in a file; the cache is in a folder of the test."""
    monkeypatch.setenv("ABSTOPK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embedding, "BLOCK", 8)
    lines = [json.dumps({"text": text, "label": i % 3}) + "\n" for i, text in enumerate(TEXTS)]
    (tmp_path / "texts.jsonl").write_text("".join(lines))
    return VectorSpec(dataset_path=str(tmp_path / "texts.jsonl"))


def reference(model: str) -> torch.Tensor:
    return SentenceTransformer(model, device="cpu").encode(TEXTS, convert_to_tensor=True, show_progress_bar=False)


def test_rows_are_those_of_sentence_transformers_with_the_columns_of_the_data(model: str, spec: VectorSpec) -> None:
    said = io.StringIO()
    vectors = embedded(spec, model, console=Console(file=said, width=300))
    found = torch.cat(list(vectors.blocks()))
    assert found.shape == (N, D_IN)
    assert torch.cosine_similarity(found, reference(model)).min() > 0.999
    assert vectors.column("label") == [i % 3 for i in range(N)]
    assert "2 of 50 texts are empty; they are embedded like any text" in said.getvalue()
    half = embedded(spec, model, dtype="float16")
    assert half.chunks[0].dtype == torch.float16
    assert torch.allclose(torch.cat(list(half.blocks())), found, atol=1e-2)


def test_rows_are_exact_in_float32_and_kept_by_precision(
    model: str, spec: VectorSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "bfloat16_pays", lambda _: True)
    rounded = torch.cat(list(embedded(spec, model).blocks()))
    exact = torch.cat(list(embedded(spec, model, precision="float32").blocks()))
    assert torch.allclose(exact, reference(model), atol=1e-5)
    assert not torch.allclose(exact, rounded, atol=1e-5)
    assert torch.cosine_similarity(exact, rounded).min() > 0.999
    monkeypatch.setattr(precision, "bfloat16_pays", None)  # the precision is remembered
    assert torch.equal(torch.cat(list(embedded(spec, model).blocks())), rounded)


def test_the_cache_is_read_again_unless_texts_or_model_change(
    model: str, spec: VectorSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = embedded(spec, model)
    with monkeypatch.context() as patched:
        patched.setattr(embedding, "Embedder", None)  # a model would be loaded
        again = embedded(spec, model)
    assert torch.equal(once.chunks[0], again.chunks[0])
    other = save_sentence_model(tmp_path / "other", seed=1)
    assert not torch.equal(embedded(spec, str(other)).chunks[0], once.chunks[0])
    path = Path(spec.dataset_path)
    path.write_text(path.read_text().replace("river", "ice"))
    embedded(spec, model)
    assert len(list(embeddings_folder().iterdir())) == 3


def test_an_interrupted_call_leaves_no_file_and_is_continued(
    model: str, spec: VectorSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder, seen = embedding.Embedder, []

    class Interrupted(embedder):
        def __call__(self, texts: list[str]) -> torch.Tensor:
            seen.append(len(texts))
            if len(seen) == 4:
                raise KeyboardInterrupt
            return super().__call__(texts)

    monkeypatch.setattr(embedding, "Embedder", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        embedded(spec, model)
    assert not list(embeddings_folder().glob("*.npy"))
    partial = next(embeddings_folder().glob("*.partial"))
    with partial.open("ab") as file:
        file.write(os.urandom(11))  # a block that was cut short
    whole = torch.cat(list(embedded(spec, model).blocks()))
    assert seen == [1, 8, 8, 8, 1, *[8] * 4, 2], "two blocks were kept"
    assert torch.cosine_similarity(whole, reference(model)).min() > 0.999
    assert [path.suffix for path in embeddings_folder().iterdir()] == [".npy"]


def test_what_is_wrong_is_said_in_one_sentence(
    model: str, spec: VectorSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = spec.dataset_path
    (tmp_path / "empty.jsonl").touch()
    for changed, name, message in (
        ({}, "no/such-model", "model='no/such-model' could not be loaded as a sentence-transformers model"),
        ({}, str(tmp_path / "cache"), "could not be loaded as a sentence-transformers model"),
        ({"column_name": "txt"}, model, "text='txt' must be text; did you mean 'text'"),
        ({"column_name": "label"}, model, "text='label' must be text"),
        ({"dataset_path": str(tmp_path / "empty.jsonl")}, model, r"empty\.jsonl' is empty"),
        ({"dataset_path": str(tmp_path / "none.jsonl")}, model, r"none\.jsonl.*no such file"),
    ):
        with pytest.raises(ConfigError, match=message):
            embedded(VectorSpec(**{"dataset_path": path, **changed}), name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'sae-lens-abstopk\[embeddings\]'"):
        embedded(spec, model)
