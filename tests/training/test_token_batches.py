"""Which tokens of a text a measurement reads."""

import json
from pathlib import Path
from typing import Any

import pytest

from sae_lens_abstopk.config.config_file import build_config
from sae_lens_abstopk.model.language_model import load_language_model
from sae_lens_abstopk.training import activations
from sae_lens_abstopk.training.activations import token_batches


@pytest.mark.parametrize("streaming", [True, False])
def test_long_documents_are_read_from_their_beginnings_unless_that_is_too_little(
    raw_config: dict[str, Any], tmp_path: Path, streaming: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activations, "LONGEST_DOCUMENT", 120)
    text = tmp_path / "books.jsonl"
    books = ("ab " * 2000, "cd " * 2000)
    text.write_text("".join(json.dumps({"text": book}) + "\n" for book in books))
    cfg = build_config(
        raw_config
        | {"dataset_path": str(text), "streaming": streaming, "store_batch_size_prompts": 1, "context_size": 16}
    )
    model = load_language_model(cfg)
    tokenizer: Any = model.tokenizer

    def read(n_tokens: int) -> str:
        batches = token_batches(model, cfg, n_tokens, part="all")
        assert sum(batch.numel() for batch in batches) >= n_tokens
        return "".join(tokenizer.decode(row) for batch in batches for row in batch)

    both = read(128)
    assert "ab" in both
    assert "cd" in both
    assert "cd" not in read(400)
