"""Untrusted text on a terminal: tokens of a model, names in a file, answers of a server."""

from collections.abc import Iterable
from contextlib import suppress
from typing import IO, Any, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from typing_extensions import override

# all but tab and newline: a terminal may interpret them as commands
_CONTROL = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)], "\ufffd")


def printable(text: str) -> str:
    """Replace each control character in ``text`` except tab and newline."""
    return text.translate(_CONTROL)


class PrintableConsole(Console):
    """
    A console that replaces control characters, highlights nothing, and never fails to write.

    A closed terminal, a full disk or a dead ``tee`` must not stop a run.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, **options)

    @property
    @override
    def file(self) -> IO[str]:  # pyright: ignore[reportIncompatibleMethodOverride]  # no setter
        return cast(IO[str], _ForgivingStream(super().file))

    @override
    def on_broken_pipe(self) -> None:
        with suppress(SystemExit):  # from here on the console is quiet
            super().on_broken_pipe()

    @override
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(printable(text), style)


class _ForgivingStream:
    """A stream that drops text it cannot write; the console handles a broken pipe."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return self._forgive(lambda: self._stream.write(text))

    def flush(self) -> None:
        self._forgive(self._stream.flush)

    def _forgive(self, action: Any) -> Any:
        try:
            return action()
        except BrokenPipeError:
            raise
        except (OSError, RuntimeError):  # RuntimeError: a signal handler prints in the middle of another write
            return 0
