"""Texts are read by a language model in one precision, kept as they are read, and read on after a stop."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from sae_lens_abstopk.model import answer_batches
from sae_lens_abstopk.model.answer_tokens import Answer
from sae_lens_abstopk.model.answer_vectors import AnswerReader
from sae_lens_abstopk.pairs.pair_vectors import TextVectors
from sae_lens_abstopk.system import precision, terminal
from sae_lens_abstopk.vectors.row_cache import embeddings_folder

PROMPT = (("user", "We loved the film, but they hated every minute of it and left before the end. " * 2),)
ANSWERS = [Answer(PROMPT if n % 2 else (), "She walked to the river. " * (1 + n % 5)) for n in range(20)]


@pytest.fixture
def vectors(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TextVectors:
    monkeypatch.setenv("ABSTOPK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(answer_batches, "BATCH_TOKENS", 64)
    return TextVectors.of(str(tiny_llama), layer=3, device="cpu")


def rows(vectors: TextVectors, console: Console | None = None) -> torch.Tensor:
    return torch.cat(list(vectors.read(ANSWERS, console=console).blocks()))


def test_a_stopped_reading_goes_on_with_the_batch_that_is_next(
    vectors: TextVectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = rows(vectors)
    monkeypatch.setenv("ABSTOPK_CACHE", str(tmp_path / "other"))
    read, seen = AnswerReader.read, list[int]()

    def stopped(self: AnswerReader, planned: answer_batches.AnswerPlan, number: int) -> torch.Tensor:
        seen.append(number)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return read(self, planned, number)

    monkeypatch.setattr(AnswerReader, "read", stopped)
    with pytest.raises(KeyboardInterrupt):
        rows(vectors)
    assert not list(embeddings_folder().glob("*.npy"))
    with next(embeddings_folder().glob("*.partial")).open("ab") as file:
        file.write(b"cut short")
    torch.testing.assert_close(rows(vectors), whole)
    assert seen[:5] == [0, 0, 1, 2, 3], "the first is one text, for the width"
    assert seen[5:7] == [0, 3]
    assert sorted(set(seen[6:])) == list(range(3, max(seen) + 1))
    assert [path.suffix for path in embeddings_folder().iterdir()] == [".npy"]


def test_vectors_are_kept_by_precision_which_is_recorded(vectors: TextVectors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "bfloat16_pays", lambda _: True)
    exactly = TextVectors.of(vectors.model, layer=3, device="cpu", float32=True)
    rounded, exact = rows(vectors), rows(exactly)
    assert (vectors.facts()["precision"], exactly.facts()["precision"]) == ("bfloat16", "float32")
    assert not torch.allclose(rounded, exact, rtol=1e-4)
    assert torch.cosine_similarity(rounded, exact).min() > 0.999
    monkeypatch.setattr("sae_lens_abstopk.pairs.pair_vectors.load_language_model", None)  # no model is needed again
    assert torch.equal(rows(vectors), rounded)
    assert torch.equal(rows(exactly), exact)


def test_the_time_that_reading_takes_is_told_with_a_shorter_way(
    vectors: TextVectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "MEASURED_FOR", 0.0)
    monkeypatch.setattr(terminal, "SECONDS_BETWEEN_LINES", 0.0)
    rows(vectors, Console(file=(shown := io.StringIO()), width=200))
    assert "about 1 second; --limit 500 for a first look\n" in shown.getvalue()
