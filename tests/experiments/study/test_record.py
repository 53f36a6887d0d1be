"""Lines of the record hold the numbers of the results, each under its own name."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from experiments.study import record
from experiments.study.record import differing_tasks, rounded, steered_numbers
from experiments.study.runs import Run
from tests.evaluation.results_document import results_document

RUN = Run(15, 8, 29, "mixed", 1)


def test_tasks_whose_examples_differ_between_lines_are_named() -> None:
    def line(**sizes: int) -> dict[str, Any]:
        return {"tasks": {name: {"texts": [n, 10, 10], "groups": 5} for name, n in sizes.items()}}

    assert differing_tasks([]) == []
    assert differing_tasks([line(tense=30, number=30), line(number=29, gender=7), line(tense=30)]) == ["number"]


def test_what_two_commands_record_at_a_time_is_all_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "RECORD", tmp_path / "results" / "runs.jsonl")

    def write(names: Sequence[str]) -> None:
        for name in names:
            record.record({"name": name})

    of_each = [[f"{command}{i}" for i in range(20)] for command in "ab"]
    with ThreadPoolExecutor(2) as commands:
        list(commands.map(write, of_each))
    assert sorted(record.recorded()) == sorted(of_each[0] + of_each[1])


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


def test_records_of_other_text_end_the_command(tmp_path: Path) -> None:
    record.require_text_of_record(tmp_path, [None, "abc"], "abc")
    with pytest.raises(SystemExit, match=r"other text \(abc\), not def"):
        record.require_text_of_record(tmp_path, [None, "abc"], "def")


def test_steering_keeps_its_directions_apart() -> None:
    record = results_document(tasks={"gender": ("he", "she")}).steering["gender"]["topk"]
    found: dict[str, Any] = steered_numbers(record)
    assert (found["latent"], found["baseline_log_odds"]) == (record.latent, rounded(record.baseline_log_odds))
    for name, one in record.interventions.items():
        assert found["interventions"][name]["symmetry"]["value"] == one.symmetry.value
        first, kept = one.doses[0], found["interventions"][name]["doses"]
        assert len(kept) == len(one.doses)
        assert kept[0] == [
            first.strength,
            rounded(first.log_odds - record.baseline_log_odds),
            rounded(first.neutral_nll - record.baseline_neutral_nll),
        ]
        for side in ("towards_a", "towards_b"):
            shown, effect = found["interventions"][name][side], getattr(one, side)
            assert (shown["strength"], shown["reached"]) == (effect.strength, effect.reached)
            for key in ("log_odds", "generated_cost", "neutral_cost"):
                assert shown[key]["value"] == getattr(effect, key).value
    for shown, one in zip(found["behaviour"]["latent"], record.behaviour["latent"], strict=True):
        assert shown["strength"] == one.strength
        assert shown["refused_harmful"]["value"] == one.refused_harmful.value
        assert shown["refused_harmless"]["value"] == one.refused_harmless.value
