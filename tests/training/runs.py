"""Runs of a raw config: begun, run to their end, and stopped by signals."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from rich.console import Console

from sae_lens_abstopk.training import training_loop as loop_module
from sae_lens_abstopk.training.config.config_file import build_config
from sae_lens_abstopk.training.runner import TrainingRun
from sae_lens_abstopk.training.train import TrainingResult, train
from tests.training.exactness import final_state

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
