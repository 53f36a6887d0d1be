"""Where the numbers of a run go: a protocol, and a logger for each place."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import wandb
from rich.console import Console
from sae_lens import LoggingConfig

# Order of the columns of metrics.csv; a measurement that a row does not have stays empty.
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
    "tokens_per_second",
    "ce_clean",
    "ce_sae",
    "ce_zero",
    "ce_mean",
    "loss_recovered_zero",
    "loss_recovered_mean",
)


class MetricLogger(Protocol):
    """Takes the metrics of a step; ``close`` is called once, at the end or after an error."""

    def log(self, metrics: Mapping[str, float], step: int) -> None: ...
    def close(self) -> None: ...


class CsvLogger:
    """One row a call, with the columns of :data:`COLUMNS`; flushed, so that a killed run keeps its rows."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._file, COLUMNS, extrasaction="ignore", restval="")
        if self._file.tell() == 0:
            self._writer.writeheader()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._writer.writerow({"step": step, **{key: _short(value) for key, value in metrics.items()}})
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class ConsoleLogger:
    """A line every ``every`` calls, for logs that no progress bar is drawn in."""

    def __init__(self, console: Console, name: str, every: int = 10) -> None:
        self._console, self._name, self._every, self._calls = console, name, every, 0

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._calls += 1
        if (self._calls - 1) % self._every and "loss_recovered_zero" not in metrics:
            return
        shown = ("loss", "fvu", "l0", "dead_latents", "tokens_per_second", "loss_recovered_zero")
        values = "  ".join(f"{key} {_short(metrics[key])}" for key in shown if key in metrics)
        self._console.print(f"{self._name}  step {step}  {values}", highlight=False, soft_wrap=True)

    def close(self) -> None:
        pass


class WandbLogger:
    """Logs to the open Weights & Biases run, under the name of the SAE where there are several."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        wandb.log({f"{self._prefix}{key}": value for key, value in metrics.items()}, step=step)

    def close(self) -> None:
        pass


class Loggers:
    """Several loggers as one."""

    def __init__(self, loggers: Sequence[MetricLogger]) -> None:
        self._loggers = list(loggers)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        for logger in self._loggers:
            logger.log(metrics, step)

    def close(self) -> None:
        for logger in self._loggers:
            logger.close()


def start_wandb(logger: LoggingConfig, config: dict[str, Any]) -> None:
    """Open the Weights & Biases run that SAELens's logging config describes."""
    wandb.init(
        project=logger.wandb_project,
        entity=logger.wandb_entity,
        config=config,
        name=logger.run_name,
        id=logger.wandb_id,
    )


def _short(value: float) -> float | str:
    return f"{value:.6g}" if isinstance(value, float) else value
