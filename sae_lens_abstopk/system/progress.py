"""Progress bars: of a training run, of passes, and of the stages of an evaluation."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 60.0

PassProgress = Callable[[int, int], None]
"""Callback with (done, total)."""
StageProgress = Callable[[str, int, int], None]
"""Callback with (stage, done, total)."""


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

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
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


@contextmanager
def passes_bar(console: Console, title: str) -> Iterator[PassProgress]:
    """Show a bar on a terminal, elsewhere a line every minute."""
    bar = _temporary_bar(console)
    task = bar.add_task(title, total=None)
    told = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal told
        bar.update(task, completed=done, total=total)
        if not console.is_terminal and time.monotonic() - told >= SECONDS_BETWEEN_LINES:
            told = time.monotonic()
            console.print(f"{title}: {done:,} of {total:,}", style="dim", markup=False)

    with bar:
        yield show


@contextmanager
def stages_bar(console: Console) -> Iterator[StageProgress]:
    """Show a bar for each stage and a line at its end; without a terminal also a line every minute."""
    bar = _temporary_bar(console)
    stages: dict[str, TaskID] = {}
    told = time.monotonic()

    def show(what: str, done: int, total: int) -> None:
        nonlocal told
        if what not in stages:
            stages[what] = bar.add_task(what, total=total)
        bar.update(stages[what], completed=done, total=total)
        if done >= total:
            bar.remove_task(stages.pop(what))
            line = f"{what}: done"
        elif console.is_terminal or time.monotonic() - told < SECONDS_BETWEEN_LINES:
            return
        else:
            line = f"{what}: {done:,} of {total:,}"
        told = time.monotonic()
        console.print(line, style="dim", markup=False)

    with bar:
        yield show


def _temporary_bar(console: Console) -> Progress:
    """Return a bar that is drawn only on a terminal and removed at the end."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
