"""Text of strangers on a terminal: tokens of a model, names in a file, what a server answers."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from typing_extensions import override

# all but tab and newline; a terminal may take them for commands
_CONTROL = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)], "\ufffd")


def printable(text: str) -> str:
    """``text`` with a replacement character for each control character but tab and newline."""
    return text.translate(_CONTROL)


class PrintableConsole(Console):
    """
    A console that sends a terminal no commands but its own, highlights nothing, and costs no run anything but its
    output.

    Nobody may be reading any more: the ``tee`` behind a pipe gets a Ctrl-C too, a terminal is closed, the disk of a log
    is full.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, **options)

    @override
    def on_broken_pipe(self) -> None:
        with suppress(SystemExit):  # quiet from here on
            super().on_broken_pipe()

    @override
    def _check_buffer(self) -> None:
        try:
            super()._check_buffer()
        except (OSError, RuntimeError):  # the latter where a signal is told of in the middle of another write
            del self._buffer[:]

    @override
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(printable(text), style)
