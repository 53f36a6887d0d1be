"""A terminal gets no commands from text, output that cannot be written stops nothing, and long work is shown."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sae_lens_abstopk.system import terminal
from sae_lens_abstopk.system.terminal import PrintableConsole
from tests.cli.test_cli import invoke

HOSTILE = "a\x1b]0;title\x07b\x9b2Jc\x7f\r\x00\td\ne"


def test_a_console_sends_only_its_own_commands() -> None:
    out = io.StringIO()
    console = PrintableConsole(file=out, force_terminal=True, width=80, color_system="standard")
    table = Table(HOSTILE)
    table.add_row(Text(HOSTILE, style="bold"))
    console.print(HOSTILE, table, f"[bold]{HOSTILE}[/]", "no 7 in colour")
    shown = out.getvalue()
    assert "no 7 in colour" in shown
    assert "\x1b[1m" in shown
    for command in ("\x1b]0", "\x9b", "\x07", "\x7f", "\x00"):
        assert command not in shown


@pytest.mark.parametrize("arguments", [["configs", "x\x1b]0;t\x07"], ["train", "x\x1b]0;t\x07.yaml"]])
def test_an_error_repeats_no_commands(arguments: list[str]) -> None:
    said = invoke(*arguments).stderr
    assert "]0;t" in said
    assert "\x1b" not in said


def test_off_a_terminal_a_stage_says_how_far_it_is_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    console, clock = Console(file=(shown := io.StringIO())), iter([0.0, 5.0, 70.0, 71.0])
    monkeypatch.setattr(terminal, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with terminal.stages_bar(console) as show:
        for done in (1, 2_000, 3_000):
            show("probes", done, 3_000)
    assert shown.getvalue() == "probes: 2,000 of 3,000\nprobes: done\n"


def test_the_early_estimate_does_not_count_what_an_earlier_call_has_done(monkeypatch: pytest.MonkeyPatch) -> None:
    console, clock = Console(file=(shown := io.StringIO())), iter([0.0, 0.0, 0.0, 10.0, 20.0])
    monkeypatch.setattr(terminal, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with terminal.passes_bar(console, "reading", hint="; --limit 500 for a first look") as show:
        for done in (1_000, 1_100, 1_200):
            show(done, 5_000)
    assert shown.getvalue() == "about 6 minutes; --limit 500 for a first look\n"


def test_the_speed_of_a_run_that_goes_on_is_that_of_its_new_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr(terminal, "time", SimpleNamespace(perf_counter=lambda: clock))
    bar = terminal.TrainingProgress(Console(quiet=True), total_tokens=10**9 + 128)
    bar.advance_to(10**9)
    bar.advance_to(10**9 + 64)
    clock += 2.0
    assert bar.tokens_per_second == 32.0
    with bar.not_counted():
        clock += 60.0
    assert bar.tokens_per_second == 32.0
