"""Many runs trained one after the other; a run that fails does not stop the others."""

import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from sae_lens_abstopk.model.language_model import require_tokenizer
from sae_lens_abstopk.system.errors import ConfigError, FolderInUseError, TrainingStopped
from sae_lens_abstopk.training.checkpoints.resume import is_finished, resume_if_started
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.interruption import caused_by_signal
from sae_lens_abstopk.training.runner import require_hook
from sae_lens_abstopk.training.source.activation_cache import ActivationCache, activation_facts
from sae_lens_abstopk.training.train import train


def train_unfinished(configs: Mapping[str, TrainingConfig], *, console: Console, dry_run: bool = False) -> list[str]:
    """
    Train or resume unfinished runs, or list them (``dry_run``); return the names of runs that other processes train.

    A run that fails is skipped; Ctrl-C, SIGTERM and SIGHUP stop all.

    Raises:
        ConfigError: before training, if a folder holds a run with other settings, an activation cache does not serve
            all runs that name it, or a model or hook is missing.
        TrainingStopped: at the end, if runs failed.
    """
    waiting = {name: cfg for name, cfg in configs.items() if not is_finished(cfg)}
    require_caches(waiting)
    if not dry_run:
        _require_models(waiting.values())
    failed, elsewhere = [], []
    for i, (name, cfg) in enumerate(configs.items(), 1):
        try:
            done = is_finished(cfg)  # another process may have trained it in the meantime
            console.print(f"[{i}/{len(configs)}] {name}{'  done' if done else ''}", markup=False)
            if not done and not dry_run:
                resume_if_started(cfg)
                train(cfg, console=console)
        except FolderInUseError as error:
            elsewhere.append(name)
            console.print(f"{name} is passed over: {error}", markup=False, soft_wrap=True)
        except Exception as error:
            if caused_by_signal(error):
                raise
            failed.append(name)
            kind = "" if isinstance(error, ConfigError | TrainingStopped) else f"{type(error).__name__}: "
            console.print(f"{name} stopped: {kind}{error}", markup=False, soft_wrap=True)
            # RuntimeError covers TrainingStopped and CUDA's own errors
            if not isinstance(error, ConfigError | OSError | RuntimeError):
                console.print(traceback.format_exc(), markup=False, soft_wrap=True)
    raise_if_failed(failed, len(configs))
    return elsewhere


def require_caches(configs: Mapping[str, TrainingConfig], *, at_once: bool = False) -> None:
    """Raise ConfigError if a cache does not serve all runs that name it; if they run ``at_once``, only one fills it."""
    filled_by: dict[Path, tuple[str, dict[str, Any]]] = {}
    to_fill: dict[Path, str] = {}
    for name, cfg in configs.items():
        if cfg.activation_cache is None:
            continue
        folder, here, problem = Path(cfg.activation_cache).resolve(), activation_facts(cfg), None
        other, there = filled_by.setdefault(folder, (name, here))
        if differing := [key for key in there | here if here.get(key) != there.get(key)]:
            problem = f"cannot serve both {other} and {name}, which differ in {', '.join(differing)}. Give each its own"
            problem += " ({layer} in its path stands for the layer)" * ("hook_name" in differing)
            problem += ", or set shuffle=false, so that the seed does not order the text" * ("seed" in differing)
        else:
            lacks_rows = ActivationCache.of_run(cfg).lacks_rows(cfg)
            if at_once and lacks_rows and (other := to_fill.setdefault(folder, name)) != name:
                problem = f"has yet to be filled, by only one of {other} and {name} at a time. Train one of them first"
        if problem is not None:
            raise ConfigError(f"activation_cache={cfg.activation_cache!r} {problem}.")


def _require_models(configs: Iterable[TrainingConfig]) -> None:
    """Check each model, tokenizer and hook once."""
    keys = (
        *("model_name", "model_class_name", "model_from_pretrained_kwargs", "tuned_model", "adapter", "hook_name"),
        *("use_chat_formatting", "is_dataset_tokenized"),
    )
    for cfg in {str([cfg.sae.d_in, *(getattr(cfg, key) for key in keys)]): cfg for cfg in configs}.values():
        require_hook(cfg)
        if cfg.source == "tokens":
            require_tokenizer(cfg.model_spec, cfg.text_spec)


def raise_if_failed(names: list[str], n_runs: int) -> None:
    """Raise TrainingStopped if some of ``n_runs`` runs failed."""
    if names:
        again = "The reasons are printed above; fix them, then run the same command again, which resumes only these"
        raise TrainingStopped(f"{len(names)} of {n_runs} runs stopped early: {', '.join(names)}. {again}.")
