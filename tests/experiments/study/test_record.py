"""The study's choice of learning rates, its record of runs, and its processes."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.study import record, runs, tune
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
    assert runs.rate_of("abstopk_unit_norm", whole, {"abstopk": 5e-4}) == 5e-4
    assert runs.rate_of("topk", whole, {"abstopk": 5e-4}) is None


def test_another_rate_has_to_be_better_by_more_than_seeds_differ() -> None:
    def best(*points: tuple[float, float | None]) -> dict[str, float]:
        found: list[dict[str, Any]] = [{"variant": "topk", "lr": lr, "fvu": fvu} for lr, fvu in points]
        return tune.best(found, (5e-4, 1e-3, 2e-3), 1e-3)

    assert best((1e-3, 0.2), (5e-4, 0.1991), (2e-3, 0.3)) == {"topk": 1e-3}
    assert best((1e-3, 0.2), (5e-4, 0.1989), (2e-3, None)) == {"topk": 5e-4}
    assert best((1e-3, None), (5e-4, 0.3)) == {"topk": 5e-4}
    assert best((1e-3, 0.2), (5e-4, 0.3)) == {}, "a rate beside the best was not tried"
    assert best((5e-4, 0.2)) == {}, "the usual rate was not tried"
    assert best((1e-3, None), (5e-4, None), (2e-3, None)) == {}
    recorded = json.loads(runs.TUNING.read_text())
    assert tune.best(recorded["points"], runs.read_study()["rates"], 1e-3) == recorded["best"]
