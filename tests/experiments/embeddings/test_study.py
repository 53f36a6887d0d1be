"""The study of embeddings: a set from answers, and one cell from training to its line in the record."""

import json
import sys
from pathlib import Path

import pytest

from experiments.embeddings import study
from experiments.embeddings.answers import write_set
from tests.sentence_model import D_IN, WORDS, save_sentence_model


def test_a_cell_is_trained_measured_recorded_and_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABSTOPK_CACHE", str(tmp_path / "cache"))
    rows = [
        {"prompt": f"{first} {second}", "response_a": f"the {first}", "response_b": f"{second} or {first} or {i}"}
        for i, first in enumerate(WORDS)
        for second in WORDS
    ]
    write_set(rows, tmp_path / "set")
    texts = [json.loads(line) for line in (tmp_path / "set" / "train.jsonl").read_text().splitlines()]
    queries = [json.loads(line)["text"] for line in (tmp_path / "set" / "queries.jsonl").read_text().splitlines()]
    assert len(queries) == round(0.3 * len(rows))
    assert not {row["prompt"] for row in texts} & set(queries)
    options = ["--f-over-d", "2", "--k", "3", "--seeds", "1", "--selection", "batch"]
    given = ["words", str(tmp_path / "set"), "--model", str(save_sentence_model(tmp_path)), *options]
    given += ["--work", str(tmp_path / "runs"), "--record", str(tmp_path / "runs.jsonl")]
    monkeypatch.setattr(sys, "argv", [study.__file__, *given])
    monkeypatch.setattr(study, "origin", lambda: {"command": "here"})
    smaller = study.load_config
    few = {"epochs": 1, "train_batch_size_tokens": 64}
    monkeypatch.setattr(study, "load_config", lambda name, overrides: smaller(name, overrides | few))
    study.main()
    study.main()
    (line,) = (tmp_path / "runs.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert (record["d_in"], record["n_queries"], record["k"]) == (D_IN, len(queries), 3)
    assert set(record["held_out"]) == {"signed", "one-sided", "one-sided 2F"}
    assert 0 < record["held_out"]["signed"]["fvu"] < 1.5
    methods = [(row["sae"], row["method"]) for row in record["retrieval"]["cosine"]]
    assert ("signed", "mirror") in methods
    assert ("one-sided 2F", "decoded") in methods
