"""What is shown of long work."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from sae_lens_abstopk.training import progress


def test_off_a_terminal_a_stage_says_how_far_it_is_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    console, clock = Console(file=(shown := io.StringIO())), iter([0.0, 5.0, 70.0, 70.0, 71.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with progress.stages_bar(console) as show:
        for done in (1, 2_000, 3_000):
            show("probes", done, 3_000)
    assert shown.getvalue() == "probes: 2,000 of 3,000\nprobes: done\n"
