"""Runs of a raw config: begun, run to their end, stopped by signals, and compared to the bit."""

import csv
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from sae_lens_abstopk.training import training_loop as loop_module
from sae_lens_abstopk.training.config.config_file import build_config
from sae_lens_abstopk.training.runner import TrainingRun
from sae_lens_abstopk.training.train import TrainingResult, train

QUIET = Console(quiet=True)
step_metrics = loop_module.step_metrics


def run_of(raw: dict[str, Any], console: Console = QUIET, **changes: Any) -> TrainingRun:
    return TrainingRun(build_config(raw | changes), console=console)


def trained(raw: dict[str, Any]) -> TrainingResult:
    return train(build_config(raw), console=QUIET)


def state_of(raw: dict[str, Any], console: Console = QUIET, **changes: Any) -> dict[str, Any]:
    run = run_of(raw, console, **changes)
    run.run()
    return final_state(run)


def one_epoch(run: TrainingRun) -> torch.Tensor:
    """Token ids [n] of the text that a run reads until it starts again."""
    batches: list[torch.Tensor] = []
    with suppress(StopIteration):
        while True:
            batches.append(run.activations_store.get_batch_tokens(raise_at_epoch_end=True))
    return torch.cat(batches).flatten()


def begin(run: TrainingRun) -> None:
    """Make the folder what it is before the first step."""
    run._prepare()


def signals_in(step: int, number: int = signal.SIGTERM, times: int = 1) -> Callable[..., Any]:
    """What takes the numbers of a step, and is sent a signal the first ``times`` that it takes those of ``step``."""
    left = times

    def send(trainer: Any, *args: Any) -> Any:
        nonlocal left
        if left and trainer.n_training_steps == step:
            left -= 1
            os.kill(os.getpid(), number)
        return step_metrics(trainer, *args)

    return send


def rows(folder: Path) -> list[dict[str, str]]:
    """The rows of a run's metrics."""
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def rows_without_speed(folder: Path) -> list[dict[str, str]]:
    """The rows of a run's metrics, but for the speed, which is the clock's."""
    return [{key: value for key, value in row.items() if key != "tokens_per_second"} for row in rows(folder)]


def final_state(run: TrainingRun) -> dict[str, Any]:
    """All that a run has changed: weights, optimiser, schedules, counts, coefficients and where its text is."""
    state: dict[str, Any] = {}
    for name, trainer in run.state.trainers.items():
        state[f"{name} weights"] = dict(trainer.sae.state_dict())
        state[f"{name} optimiser"] = trainer.optimizer.state_dict()
        state[f"{name} schedule"] = trainer.lr_scheduler.state_dict()
        state[f"{name} coefficients"] = {key: dict(vars(it)) for key, it in trainer.coefficient_schedulers.items()}
        state[f"{name} counts"] = [
            trainer.n_training_steps,
            trainer.n_training_samples,
            trainer.n_forward_passes_since_fired,
            trainer.act_freq_scores,
            trainer.n_frac_active_samples,
        ]
        state[f"{name} saved"] = (run.folders[name] / "sae_weights.safetensors").read_bytes()
        state[f"{name} metrics"] = rows_without_speed(run.folders[name])
    state["controllers"] = {name: controller.state() for name, controller in run.state.controllers.items()}
    state["losses"] = run.state.watch.state()
    state["text"] = [
        run.activations_store.n_blocks,
        run.activations_store.max_norm,
        run.activations_store.generator.get_state(),
    ]
    state["random"] = torch.get_rng_state()
    return state


def differences(a: Any, b: Any, at: str = "") -> list[str]:
    """Return the places at which two nested structures of values differ in any bit."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [found for key in a for found in differences(a[key], b[key], f"{at}/{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [found for i, pair in enumerate(zip(a, b, strict=True)) for found in differences(*pair, f"{at}/{i}")]
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if a.dtype == b.dtype and torch.equal(a, b) else [at]
    return [] if type(a) is type(b) and (a == b or callable(a)) else [at]
