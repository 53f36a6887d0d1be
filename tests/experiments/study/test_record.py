"""The study's choice of learning rates, its record of runs, and its processes."""

import json
import math
import os
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from experiments.study import record, runs, tune
from experiments.study.processes import in_processes
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


def test_rates_are_tried_outwards_until_the_best_lies_between_two() -> None:
    fvu = {2.5e-4: 0.5, 5e-4: 0.4, 1e-3: 0.3, 2e-3: 0.2, 4e-3: 0.25, 8e-3: math.inf}
    tried: dict[float, float] = {}
    rounds = []
    while left := tune.still_to_try(tried, list(fvu), 1e-3):
        rounds.append(left)
        tried |= {rate: fvu[rate] for rate in left}
    assert rounds == [[5e-4, 1e-3, 2e-3], [4e-3]]
    assert tune.still_to_try({2e-3: 0.2}, list(fvu), 1e-3) == [5e-4, 1e-3], "the usual rate says where to begin"
    assert tune.still_to_try({1e-3: 0.2, 5e-4: 0.3, 2.5e-4: 0.1}, list(fvu), 1e-3) == [], "there is no lower one"


def stopped_by_the_second(item: tuple[Path, int]) -> int:
    """Leave a file; the first waits for the second, which gets Ctrl-C."""
    folder, number = item
    (folder / str(number)).touch()
    if number == 1:
        os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)
    return number


@pytest.mark.slow
def test_after_an_interruption_no_other_item_begins(tmp_path: Path) -> None:
    assert list(in_processes(abs, [-1, -2, -3], 2)) == [1, 2, 3]
    with pytest.raises(KeyboardInterrupt):
        list(in_processes(stopped_by_the_second, [(tmp_path, number) for number in range(6)], 2))
    assert {path.name for path in tmp_path.iterdir()} <= {"0", "1", "2"}
