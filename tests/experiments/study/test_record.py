"""Lines of the record hold the numbers of the results, each under its own name."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from experiments.study import record
from experiments.study.runs import Run

RUN = Run(15, 8, 29, "mixed", 1)


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
