"""What is shown of long work."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from sae_lens_abstopk.system import progress


def test_off_a_terminal_a_stage_says_how_far_it_is_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    console, clock = Console(file=(shown := io.StringIO())), iter([0.0, 5.0, 70.0, 70.0, 71.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with progress.stages_bar(console) as show:
        for done in (1, 2_000, 3_000):
            show("probes", done, 3_000)
    assert shown.getvalue() == "probes: 2,000 of 3,000\nprobes: done\n"


def test_the_speed_of_a_run_that_goes_on_is_that_of_its_new_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: clock))
    bar = progress.TrainingProgress(Console(quiet=True), total_tokens=10**9 + 128)
    bar.advance_to(10**9)
    bar.advance_to(10**9 + 64)
    clock += 2.0
    assert bar.tokens_per_second == 32.0
    with bar.not_counted():
        clock += 60.0
    assert bar.tokens_per_second == 32.0
