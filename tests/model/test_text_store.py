"""Which tokens of a text a measurement reads."""

import json
from pathlib import Path
from typing import Any

import pytest

from sae_lens_abstopk.model import text_store
from sae_lens_abstopk.training.config.config_file import build_config
from tests.specs import model_of, tokens_of


@pytest.mark.parametrize("streaming", [True, False])
def test_long_documents_are_read_from_their_beginnings_unless_that_is_too_little(
    raw_config: dict[str, Any], tmp_path: Path, streaming: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_store, "LONGEST_DOCUMENT", 120)
    text = tmp_path / "books.jsonl"
    books = ("ab " * 2000, "cd " * 2000)
    text.write_text("".join(json.dumps({"text": book}) + "\n" for book in books))
    cfg = build_config(
        raw_config
        | {"dataset_path": str(text), "streaming": streaming, "store_batch_size_prompts": 1, "context_size": 16}
    )
    model = model_of(cfg)
    tokenizer: Any = model.tokenizer

    def read(n_tokens: int) -> str:
        batches = tokens_of(model, cfg, n_tokens, part="all", d_sae=64, with_logits=True)
        assert sum(batch.numel() for batch in batches) >= n_tokens
        return "".join(tokenizer.decode(row) for batch in batches for row in batch)

    both = read(128)
    assert "ab" in both
    assert "cd" in both
    assert "cd" not in read(400)


def test_a_pass_has_bounded_codes_and_bounded_logits_if_there_are_any(
    raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = build_config(raw_config)
    model: Any = model_of(cfg)
    monkeypatch.setattr(text_store, "CODES_OF_A_PASS", 3 * 32 * 64)
    monkeypatch.setattr(text_store, "LOGITS_OF_A_PASS", 2 * 32 * len(model.tokenizer))

    def sizes(d_sae: int, *, with_logits: bool) -> list[int]:
        batches = tokens_of(model, cfg, 128, part="all", d_sae=d_sae, with_logits=with_logits)
        return [len(batch) for batch in batches]

    assert sizes(64, with_logits=False) == [3, 1]
    assert sizes(64, with_logits=True) == [2, 2]
    assert sizes(1000, with_logits=False) == [1] * 4
