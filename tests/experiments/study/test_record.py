"""The study's learning rates and its record of runs."""

from pathlib import Path

import pytest

from experiments.study import record, runs
from experiments.study.runs import Run

RUN = Run(15, 8, 29, "mixed", 1)


def test_a_run_that_diverged_is_recorded_apart_from_those_that_were_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "RECORD", tmp_path / "results" / "runs.jsonl")
    facts = {"lr": 0.002, "diverged": "the loss of 'sae' is nan at step 5"}
    record.record(record.head_of(RUN, facts), {"name": "another", "training": {"lr": 0.001}})
    assert list(record.recorded()) == ["another"]
    assert record.diverged() == {RUN.name: facts["diverged"]}
    assert record.is_recorded(record.all_lines()[RUN.name], lr=0.002)
    record.record({"name": "another", "training": {}})
    assert record.diverged(), "it stays where others are recorded"


def test_every_variant_is_tuned_or_derived_from_one_that_is() -> None:
    whole = runs.read_study()
    assert sorted([*whole["tuned"], *whole["rate_of"]]) == sorted(whole["variants"])
    assert set(whole["rate_of"].values()) <= set(whole["tuned"])
    rates = runs.rates_of(whole)
    assert rates["standard"] == 2e-3
    assert rates["topk_2F"] == rates["topk"] == 1e-3
