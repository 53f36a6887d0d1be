"""The corpus of the study: whole documents are held out, and every part of the text is there once."""

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from experiments.study.corpus import HELD_OUT_EVERY, main, make_corpus
from experiments.study.runs import digest_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    novels = tmp_path / "novels"
    novels.mkdir()
    for i in range(30):
        (novels / f"{i}.txt").write_text("\n\n".join(f"Novel {i}, paragraph {j}. " + "word " * 60 for j in range(30)))
    stories = tmp_path / "stories"
    stories.mkdir()
    (stories / "stories.json").write_text(json.dumps([f"Story {i}. " + "then " * 100 for i in range(100)]))
    (stories / "numbers.json").write_text("[1, 2]")
    return tmp_path


def document(row: dict[str, str]) -> str:
    """What a section of the folder above comes from."""
    return row["text"].strip().split(",")[0].split(".")[0]


def test_no_document_is_in_both_parts(folder: Path) -> None:
    rows = make_corpus(folder, seed=0)
    held_out = {document(row) for i, row in enumerate(rows) if i % HELD_OUT_EVERY == HELD_OUT_EVERY - 1}
    training = {document(row) for i, row in enumerate(rows) if i % HELD_OUT_EVERY != HELD_OUT_EVERY - 1}
    assert len(rows) % HELD_OUT_EVERY == 0
    assert len(held_out) >= 2
    assert not held_out & training


def test_a_corpus_is_the_same_wherever_it_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, plain = (folder / name for name in ("corpus.jsonl.gz", "again.jsonl.gz", "plain.jsonl"))
    for path in (first, second):
        monkeypatch.setattr("sys.argv", ["corpus", str(folder), "--out", str(path)])
        main()
    assert first.read_bytes() == second.read_bytes()
    # and known as the text that it holds, however it is packed
    plain.write_bytes(gzip.decompress(first.read_bytes()))
    second.write_bytes(gzip.compress(plain.read_bytes(), compresslevel=1))
    assert first.read_bytes() != second.read_bytes()
    assert (
        digest_of(first) == digest_of(second) == digest_of(plain) == hashlib.sha256(plain.read_bytes()).hexdigest()[:12]
    )
