"""Loggers of a run's metrics: the protocol, the CSV file, the console and a container of several."""

import csv
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from rich.console import Console

from sae_lens_abstopk.system.terminal import SECONDS_BETWEEN_LINES

COLUMNS: tuple[str, ...] = (
    *("step", "tokens", "loss", "mse", "nmse", "fvu", "l0", "dead_latents", "dead_poles", "two_sidedness"),
    *("learning_rate", "sparsity_coefficient", "tokens_per_second"),
    *("held_out_fvu", "held_out_l0", "ce_clean", "ce_sae", "ce_zero", "ce_mean"),
    *("loss_recovered_zero", "loss_recovered_mean"),
)
"""Columns of metrics.csv, before those that an architecture adds; missing values are empty."""
# failures in a row after which a tracker is not called again
GIVE_UP = 3


class MetricLogger(Protocol):
    """Protocol of a metrics logger; ``close`` is called once, at the end or after an error."""

    def log(self, metrics: Mapping[str, float], step: int) -> None: ...
    def close(self) -> None: ...


class CsvLogger:
    """Writer of metrics.csv, one row a call; a new file has :data:`COLUMNS` and the others of the first row."""

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
        short = {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in metrics.items()}
        writer.writerow({"step": step, **short})
        self._file.flush()  # so that a killed run keeps its rows

    def close(self) -> None:
        self._file.close()


class ConsoleLogger:
    """Printer in place of a progress bar: the first call, one a minute, those with Loss Recovered, the last step."""

    def __init__(self, console: Console, name: str, n_steps: int) -> None:
        self._console, self._name, self._n_steps = console, name, n_steps
        self._printed_at = -SECONDS_BETWEEN_LINES

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        is_due = time.monotonic() - self._printed_at >= SECONDS_BETWEEN_LINES
        if not is_due and step < self._n_steps and "loss_recovered_zero" not in metrics:
            return
        self._printed_at = time.monotonic()
        # not the loss, which jumps when its part for dead latents sets in
        shown = ("mse", "fvu", "l0", "dead_latents", "tokens_per_second", "loss_recovered_zero")
        known = {key: metrics[key] for key in shown if key in metrics}
        values = "  ".join(f"{key} {value:{',.0f' if value >= 1000 else '.4g'}}" for key, value in known.items())
        self._console.print(f"{self._name}  step {step}/{self._n_steps}  {values}", soft_wrap=True)

    def close(self) -> None:
        pass


class Loggers:
    """Several loggers as one; one that fails causes a warning, and after ``GIVE_UP`` failures in a row is left out."""

    def __init__(self, loggers: Sequence[MetricLogger], warn: Callable[[str], object]) -> None:
        self._loggers, self._warn = list(loggers), warn
        self._failures: dict[int, int] = {}

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._try(lambda logger: logger.log(metrics, step))

    def close(self) -> None:
        self._try(lambda logger: logger.close())

    def _try(self, call: Callable[[MetricLogger], None]) -> None:
        for number, logger in enumerate(self._loggers):
            # each call of a tracker may wait for a lost server
            if self._failures.get(number, 0) >= GIVE_UP and not isinstance(logger, CsvLogger | ConsoleLogger):
                continue
            try:
                call(logger)
            except Exception as error:  # any error of a server or a full disk
                if number not in self._failures:
                    self._warn(failure_note(type(logger).__name__, error))
                self._failures[number] = self._failures.get(number, 0) + 1
            else:
                if number in self._failures:
                    self._failures[number] = 0


def failure_note(logger: str, error: Exception) -> str:
    """Describe the failure of a logger in one sentence."""
    why = " ".join(str(error).split())[:600]
    return f"warning: {logger} failed ({type(error).__name__}: {why}); the run goes on without it."
