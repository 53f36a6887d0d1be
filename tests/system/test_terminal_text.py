"""A terminal gets no commands from text, and output that cannot be written stops nothing."""

import errno
import io
import os

import pytest
from rich.table import Table
from rich.text import Text

from sae_lens_abstopk.system.terminal_text import PrintableConsole, printable
from tests.cli.test_cli import invoke

HOSTILE = "a\x1b]0;title\x07b\x9b2Jc\x7f\r\x00\td\ne"


def test_control_characters_are_replaced() -> None:
    assert printable(HOSTILE) == "a�]0;title�b�2Jc���\td\ne"


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


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE])
def test_output_that_cannot_be_written_is_dropped(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "dup2", lambda *_: None)  # rich silences stdout at a broken pipe
    console = PrintableConsole(file=Full())
    console.print("lost")
    assert console.quiet == (number == errno.EPIPE)


@pytest.mark.parametrize("arguments", [["configs", "x\x1b]0;t\x07"], ["train", "x\x1b]0;t\x07.yaml"]])
def test_an_error_repeats_no_commands(arguments: list[str]) -> None:
    said = invoke(*arguments).stderr
    assert "]0;t" in said
    assert "\x1b" not in said
