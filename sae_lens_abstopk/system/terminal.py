"""Output on a terminal: a console safe for untrusted text, and progress bars of runs, passes and stages."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any, Self, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from typing_extensions import override

SECONDS_BETWEEN_LINES = 60.0
# seconds until the time left is printed with a hint; under a minute it is not
MEASURED_FOR = 3.0
UNLIMITED = 100_000
"""Width of a console of Markdown or JSON, where nothing is cut or wrapped."""
# all but tab and newline: a terminal may interpret them as commands
_CONTROL = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)], "\ufffd")

PassProgress = Callable[[int, int], None]
"""Callback with (done, total)."""
StageProgress = Callable[[str, int, int], None]
"""Callback with (stage, done, total)."""


def printable(text: str) -> str:
    """Replace each control character in ``text`` except tab and newline."""
    return text.translate(_CONTROL)


class PrintableConsole(Console):
    """A console that replaces control characters, highlights nothing, and drops what it cannot write."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, **options)
        self._has_own_file = "file" in options

    @property
    def progress(self) -> "PrintableConsole":
        """A console of standard error for progress; this one if it writes there or to a file of its own."""
        if self.stderr or self._has_own_file:
            return self
        return PrintableConsole(stderr=True, quiet=self.quiet, markup=False)

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


def only_bars(console: Console) -> Console:
    """Return ``console`` if it is a terminal, which shows bars; elsewhere a quiet one, without a line for each SAE."""
    return console if console.is_terminal else Console(quiet=True)


class TrainingProgress:
    """On a terminal, a bar for the run and a line for each SAE; elsewhere only a measurement of speed."""

    def __init__(self, console: Console, total_tokens: int) -> None:
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=total_tokens, speed="")
        self._lines: dict[str, str] = {}
        self._started = time.perf_counter()
        self._tokens_at_start: int | None = None
        self._tokens = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    @property
    def tokens_per_second(self) -> float:
        """Mean speed of training since the bar was made."""
        return (self._tokens - (self._tokens_at_start or 0)) / max(time.perf_counter() - self._started, 1e-9)

    @contextmanager
    def not_counted(self) -> Iterator[None]:
        """Leave the time within this context out of the speed."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._started += time.perf_counter() - started

    def advance_to(self, tokens: int) -> None:
        """Set the number of training tokens done."""
        if self._tokens_at_start is None:
            self._tokens_at_start = tokens
        self._tokens = tokens
        self._bar.update(self._task, completed=tokens, speed=f"{self.tokens_per_second:,.0f} tokens/s")

    def show(self, name: str, metrics: Mapping[str, float], *, d_sae: int) -> None:
        """Show the newest numbers of one SAE beside the bar."""
        self._lines[name] = (
            f"{name}: MSE {metrics['mse']:.4g}  FVU {metrics['fvu']:.3f}  L0 {metrics['l0']:.1f}  "
            f"dead {metrics['dead_latents'] / d_sae:.1%}"
        )
        self._bar.update(self._task, description="\n".join(self._lines.values()))


def minutes(seconds: float) -> str:
    """Write a time as hours, minutes or seconds, whichever reads best."""
    for size, name in ((3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= 1.5 * size or size == 1:
            n = max(round(seconds / size), 1)
            return f"{n:,} {name}{'' if n == 1 else 's'}"
    raise AssertionError


@contextmanager
def passes_bar(console: Console, title: str, unit: str = "", hint: str | None = None) -> Iterator[PassProgress]:
    """
    Show a bar on a terminal, elsewhere a line every minute, with the time left; ``unit`` is of the numbers.

    With a ``hint``, such as how to do less, the time left is also printed early, followed by the hint.
    """
    with _bars(console, say_done=False, unit=unit, hint=hint) as show:
        show(title, 0, 0)  # before the first pass, which takes longest
        yield lambda done, total: show(title, done, total)


@contextmanager
def stages_bar(console: Console) -> Iterator[StageProgress]:
    """Show a bar for each stage and a line at its end; without a terminal also a line every minute."""
    with _bars(console, say_done=True) as show:
        yield show


@contextmanager
def _bars(console: Console, *, say_done: bool, unit: str = "", hint: str | None = None) -> Iterator[StageProgress]:
    """Show a bar for each title, drawn only on a terminal and removed at the end."""
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        *([TextColumn(unit, markup=False)] if unit else []),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    tasks: dict[str, TaskID] = {}
    started: dict[str, tuple[float, int]] = {}
    last_line = time.monotonic()

    def show(title: str, done: int, total: int) -> None:
        nonlocal last_line, hint
        now = time.monotonic()
        if title not in tasks:
            tasks[title] = bar.add_task(title, total=None)
        if total:  # what an earlier call has done does not count as work of this one
            started.setdefault(title, (now, done))
        at, first = started.get(title, (now, done))
        left = (now - at) / (done - first) * (total - done) if done > first else 0.0
        bar.update(tasks[title], completed=done, total=total or None)
        ended = say_done and done >= total
        if ended:
            bar.remove_task(tasks.pop(title))
            started.pop(title, None)  # a stage of the same title may follow
        if hint is not None and done > first and now - at >= MEASURED_FOR:
            if left >= SECONDS_BETWEEN_LINES:
                console.print(f"about {minutes(left)}{hint}", style="dim", markup=False)
            hint = None
        if ended or not (console.is_terminal or now - last_line < SECONDS_BETWEEN_LINES):
            last_line = now
            rest = f", about {minutes(left)} left" if left > SECONDS_BETWEEN_LINES else ""
            line = f"{title}: done" if ended else f"{title}: {done:,} of {total:,}{unit and f' {unit}'}{rest}"
            console.print(line, style="dim", markup=False)

    with bar:
        yield show
