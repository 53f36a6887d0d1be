"""Training many runs one after the other: a run that fails takes no other with it."""

import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from sae_lens_abstopk.model.check_hook import check_hook
from sae_lens_abstopk.model.language_model import require_tokenizer
from sae_lens_abstopk.system.errors import ConfigError, FolderInUseError, TrainingStopped
from sae_lens_abstopk.training.checkpoints.resume import is_finished, resume_if_started
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.interruption import came_of_a_signal
from sae_lens_abstopk.training.source.activation_cache import ActivationCache, activation_facts
from sae_lens_abstopk.training.train import train


def train_unfinished(configs: Mapping[str, TrainingConfig], *, console: Console, dry_run: bool = False) -> list[str]:
    """
    Train the runs that are not finished, by name; with ``dry_run`` only list them.

    A run that was stopped goes on from its newest checkpoint. One that fails is passed over, and one that another process
    trains; Ctrl-C, SIGTERM and SIGHUP end all.

    Returns:
        The names of those that other processes train.

    Raises:
        ConfigError: before any is trained, if the folder of one holds a run with other settings, an activation cache does not
            serve all runs that name it, or a model cannot be had or lacks a hook.
        TrainingStopped: at the end, naming the runs that failed.
    """
    waiting = {name: cfg for name, cfg in configs.items() if not is_finished(cfg)}
    require_caches(waiting)
    if not dry_run:
        _require_models(waiting.values())
    failed, elsewhere = [], []
    for i, (name, cfg) in enumerate(configs.items(), 1):
        try:
            done = is_finished(cfg)  # perhaps by another process, since
            console.print(f"[{i}/{len(configs)}] {name}{'  done' if done else ''}", markup=False)
            if not done and not dry_run:
                resume_if_started(cfg)
                train(cfg, console=console)
        except FolderInUseError as error:
            elsewhere.append(name)
            console.print(f"{name} is passed over: {error}", markup=False, soft_wrap=True)
        except Exception as error:
            if came_of_a_signal(error):
                raise
            failed.append(name)
            kind = "" if isinstance(error, ConfigError | TrainingStopped) else f"{type(error).__name__}: "
            console.print(f"{name} stopped: {kind}{error}", markup=False, soft_wrap=True)
            # TrainingStopped and CUDA's own errors are RuntimeErrors
            if not isinstance(error, ConfigError | OSError | RuntimeError):
                console.print(traceback.format_exc(), markup=False, soft_wrap=True)
    raise_if_failed(failed, len(configs))
    return elsewhere


def require_caches(configs: Mapping[str, TrainingConfig], *, at_once: bool = False) -> None:
    """
    Refuse runs of which one fills an activation cache that another cannot read.

    Args:
        configs: Unfinished runs by name.
        at_once: Whether several may be trained at a time, of which only one could fill a cache.

    Raises:
        ConfigError: naming both runs and what differs, or the folder that holds other activations already.
    """
    filling: dict[Path, tuple[str, dict[str, Any]]] = {}
    lacking: dict[Path, str] = {}
    for name, cfg in configs.items():
        if cfg.activation_cache is None:
            continue
        here = activation_facts(cfg)
        folder = Path(cfg.activation_cache).resolve()
        other, there = filling.setdefault(folder, (name, here))
        differing = [key for key in here if here[key] != there[key]]
        if differing:
            raise ConfigError(
                f"activation_cache={cfg.activation_cache!r} cannot serve both {other} and {name}, which differ in "
                f"{', '.join(differing)}. Give each an activation_cache of its own"
                + (" ({layer} in it stands for the layer)" if "hook_name" in differing else "")
                + (", or set shuffle=false, so that the seed does not order the text." if "seed" in differing else ".")
            )
        try:
            lacks_rows = ActivationCache.of_run(cfg).lacks_rows(cfg)
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from None
        if at_once and lacks_rows and (other := lacking.setdefault(folder, name)) != name:
            raise ConfigError(
                f"activation_cache={cfg.activation_cache!r} has yet to be filled, which only one of {other} and {name} can do at "
                "a time. Train one of them first, or run the sweep without --launcher."
            )


def _require_models(configs: Iterable[TrainingConfig]) -> None:
    """
    Look up the model, its tokenizer and the hook of each run.

    Raises:
        ConfigError: with all that is wrong.
    """
    read: set[tuple[Any, ...]] = set()
    problems = []
    for cfg in configs:
        model = (cfg.model_name, cfg.model_class_name, str(cfg.model_from_pretrained_kwargs))
        hook, text = (*model, cfg.hook_name, cfg.sae.d_in), (*model, cfg.use_chat_formatting, cfg.is_dataset_tokenized)
        unread = {hook, text} - read
        read |= unread
        try:
            if hook in unread:
                check_hook(cfg.model_spec, d_in=cfg.sae.d_in, context_size=cfg.context_size)
            if text in unread:
                require_tokenizer(cfg.model_spec, cfg.text_spec)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))


def raise_if_failed(names: list[str], n_runs: int) -> None:
    """
    End a command that has gone through ``n_runs`` runs, where some failed.

    Raises:
        TrainingStopped: with their names.
    """
    if names:
        raise TrainingStopped(
            f"{len(names)} of {n_runs} runs stopped early: {', '.join(names)}. The reason for each is printed above; fix it, "
            "then run the same command again, which resumes only these."
        )
