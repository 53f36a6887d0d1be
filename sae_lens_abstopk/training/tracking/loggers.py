"""Where the numbers of a run go: a protocol, the file and the screen, and a container (see also :mod:`.tracking`)."""

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from rich.console import Console

# calls to a line in a log
LINE_EVERY = 10
# Order of the columns of metrics.csv, before those that an architecture adds; what a row does not have stays empty.
COLUMNS: tuple[str, ...] = (
    "step",
    "tokens",
    "loss",
    "mse",
    "nmse",
    "fvu",
    "l0",
    "dead_latents",
    "dead_poles",
    "two_sidedness",
    "learning_rate",
    "sparsity_coefficient",
    "tokens_per_second",
    "held_out_fvu",
    "held_out_l0",
    "ce_clean",
    "ce_sae",
    "ce_zero",
    "ce_mean",
    "loss_recovered_zero",
    "loss_recovered_mean",
)
# failures in a row after which a logger that may wait for a server is left alone
GIVE_UP = 3


class MetricLogger(Protocol):
    """Takes the metrics of a step; ``close`` is called once, at the end or after an error."""

    def log(self, metrics: Mapping[str, float], step: int) -> None: ...
    def close(self) -> None: ...


class CsvLogger:
    """
    One row a call, flushed, so that a killed run keeps its rows.

    Columns are those that the file has, or :data:`COLUMNS` and what else the first row has.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+", newline="", encoding="utf-8")
        self._file.seek(0)
        self._columns = next(csv.reader(self._file), [])
        self._file.seek(0, os.SEEK_END)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        is_new = not self._columns
        self._columns = self._columns or list(dict.fromkeys((*COLUMNS, *metrics)))
        writer = csv.DictWriter(self._file, self._columns, extrasaction="ignore", restval="", lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow({"step": step, **{key: _short(value) for key, value in metrics.items()}})
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class ConsoleLogger:
    """A line every ``LINE_EVERY`` calls, for logs that no progress bar is drawn in."""

    def __init__(self, console: Console, name: str, n_steps: int) -> None:
        self._console, self._name, self._n_steps, self._calls = console, name, n_steps, 0

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._calls += 1
        if (self._calls - 1) % LINE_EVERY and "loss_recovered_zero" not in metrics:
            return
        # not the loss, which the dead latents' part of it raises as soon as some are dead
        shown = ("mse", "fvu", "l0", "dead_latents", "tokens_per_second", "loss_recovered_zero")
        values = "  ".join(f"{key} {metrics[key]:.4g}" for key in shown if key in metrics)
        self._console.print(f"{self._name}  step {step}/{self._n_steps}  {values}", soft_wrap=True)

    def close(self) -> None:
        pass


class Loggers:
    """
    Several loggers as one; a logger that fails is warned about once and never stops a run.

    One that fails ``GIVE_UP`` times in a row is not called again, nor closed, as each call may wait for a server that is
    gone; the file and the screen are tried at every call.
    """

    def __init__(self, loggers: Sequence[MetricLogger], warn: Callable[[str], object]) -> None:
        self._loggers, self._warn = list(loggers), warn
        self._failures: dict[int, int] = {}

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        for number, logger in enumerate(self._loggers):
            self._try(number, logger, lambda logger=logger: logger.log(metrics, step))

    def close(self) -> None:
        for number, logger in enumerate(self._loggers):
            self._try(number, logger, logger.close)

    def _try(self, number: int, logger: MetricLogger, call: Callable[[], None]) -> None:
        if self._failures.get(number, 0) >= GIVE_UP and not isinstance(logger, CsvLogger | ConsoleLogger):
            return
        try:
            call()
        except Exception as error:  # whatever a server or a full disk raises
            if number not in self._failures:
                self._warn(failure_note(type(logger).__name__, error))
            self._failures[number] = self._failures.get(number, 0) + 1
        else:
            if number in self._failures:
                self._failures[number] = 0


def failure_note(logger: str, error: Exception) -> str:
    """One sentence about a logger that failed."""
    why = " ".join(str(error).split())[:600]
    return f"warning: {logger} failed ({type(error).__name__}: {why}); the run goes on without it."


def _short(value: float) -> float | str:
    return f"{value:.6g}" if isinstance(value, float) else value
