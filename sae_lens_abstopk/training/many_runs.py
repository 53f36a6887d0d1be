"""Training many runs one after the other: a run that stops itself takes no other with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from sae_lens_abstopk.config.training_config import TrainingConfig
from sae_lens_abstopk.errors import ConfigError, TrainingStopped
from sae_lens_abstopk.training.activation_cache import ActivationCache, activation_facts
from sae_lens_abstopk.training.interruption import came_of_a_signal
from sae_lens_abstopk.training.resume import is_finished, resume_if_started
from sae_lens_abstopk.training.runner import train


def train_unfinished(configs: Mapping[str, TrainingConfig], *, console: Console, dry_run: bool = False) -> None:
    """
    Train the runs that are not finished, by name; with ``dry_run`` only list them.

    A run that was stopped goes on from its newest checkpoint. One that stops itself is passed over; Ctrl-C and SIGTERM end
    all.

    Raises:
        ConfigError: before any is trained, if the folder of one holds a run with other settings, or an activation cache does
            not serve all runs that name it.
        TrainingStopped: at the end, naming the runs that stopped themselves.
    """
    finished = [is_finished(cfg) for cfg in configs.values()]
    _require_caches({name: cfg for (name, cfg), done in zip(configs.items(), finished, strict=True) if not done})
    stopped = []
    for i, ((name, cfg), done) in enumerate(zip(configs.items(), finished, strict=True), 1):
        console.print(f"[{i}/{len(configs)}] {name}{'  done' if done else ''}", markup=False, highlight=False)
        if done or dry_run:
            continue
        resume_if_started(cfg)
        try:
            train(cfg, console=console)
        except TrainingStopped as error:
            if came_of_a_signal(error):
                raise
            stopped.append(name)
            console.print(f"{name} stopped: {error}", markup=False, highlight=False, soft_wrap=True)
    refuse_stopped(stopped, len(configs))


def _require_caches(configs: Mapping[str, TrainingConfig]) -> None:
    """
    Refuse runs of which one fills an activation cache that another cannot read.

    Raises:
        ConfigError: naming both runs and what differs, or the folder that holds other activations already.
    """
    filling: dict[Path, tuple[str, dict[str, Any]]] = {}
    for name, cfg in configs.items():
        if cfg.activation_cache is None:
            continue
        here = activation_facts(cfg)
        other, there = filling.setdefault(Path(cfg.activation_cache).resolve(), (name, here))
        differing = [key for key in here if here[key] != there[key]]
        if differing:
            raise ConfigError(
                f"activation_cache={cfg.activation_cache!r} cannot serve both {other} and {name}, which differ in "
                f"{', '.join(differing)}. Give each an activation_cache of its own"
                + (", or set shuffle=false, so that the seed does not order the text." if "seed" in differing else ".")
            )
        try:
            ActivationCache.of_run(cfg)
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from None


def refuse_stopped(names: list[str], n_runs: int) -> None:
    """
    End a command that has gone through ``n_runs`` runs, where some stopped themselves.

    Raises:
        TrainingStopped: with their names.
    """
    if names:
        raise TrainingStopped(
            f"{len(names)} of {n_runs} runs stopped early: {', '.join(names)}. The reason for each is printed above; fix it, "
            "then run the same command again, which resumes only these."
        )
