"""The state in a checkpoint: everything that later steps depend on, to the bit."""

import json
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sae_lens import SAE, SAETrainer
from sae_lens.constants import TRAINER_STATE_FILENAME

from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.provenance import code_digest, environment
from sae_lens_abstopk.training.divergence import DivergenceWatch
from sae_lens_abstopk.training.run_folder import sae_folder
from sae_lens_abstopk.training.target_l0 import L0Controller

STATE = "state.json"


class TrainingState(NamedTuple):
    """The parts of a run that change from step to step."""

    trainers: Mapping[str, SAETrainer[Any, Any]]
    """Trainers by SAE name, ``"sae"`` first."""
    controllers: Mapping[str, L0Controller]
    watch: DivergenceWatch


def save_state(
    folder: Path, state: TrainingState, *, metrics: Mapping[str, Path], text_files: list[list[str | int]]
) -> None:
    """
    Write a checkpoint into ``folder``, each companion into a subfolder, without changing the run.

    SAELens's files hold an SAE, its optimiser, schedule, firing counts and activation scale; this adds the rest, except
    for the position in the text (:mod:`.stream_state`). ``text_files`` and the environment are compared on resume.
    """
    first = state.trainers["sae"]
    for name, trainer in state.trainers.items():
        part = sae_folder(folder, name)
        # the base method: that of signed SAEs normalises rows, which would change the run
        SAE.save_model(trainer.sae, part)
        trainer.save_trainer_state(part)
        if metrics[name].is_file():
            shutil.copyfile(metrics[name], part / metrics[name].name)
    plain = {
        "step": first.n_training_steps,
        "tokens": first.n_training_samples,
        "coefficients": {
            name: {key: vars(scheduler) for key, scheduler in trainer.coefficient_schedulers.items()}
            for name, trainer in state.trainers.items()
        },
        "controllers": {name: controller.state() for name, controller in state.controllers.items()},
        "losses": state.watch.state(),
        "text_files": text_files,
        "environment": environment(first.sae.device) | {"code": code_digest()},
    }
    (folder / STATE).write_text(json.dumps(plain) + "\n", encoding="utf-8")


def load_state(folder: Path, state: TrainingState) -> None:
    """Load what :func:`save_state` wrote; raise ConfigError if the optimiser's file could run code."""
    for name, trainer in state.trainers.items():
        part = sae_folder(folder, name)
        try:
            trainer.load_trainer_state(part)  # torch.load, from 2.6 on with weights_only
        except pickle.UnpicklingError as error:
            raise ConfigError(
                f"{part / TRAINER_STATE_FILENAME} holds more than the state of an optimiser and could run code; resume "
                f"from another checkpoint ({str(error).splitlines()[0][:100]})."
            ) from None
        trainer.sae.load_weights_from_checkpoint(part)
    plain = json.loads((folder / STATE).read_text(encoding="utf-8"))
    for name, trainer in state.trainers.items():
        for key, scheduler in trainer.coefficient_schedulers.items():
            vars(scheduler).update(plain["coefficients"][name][key])
    for name, controller in state.controllers.items():
        controller.load(plain["controllers"][name])
    state.watch.load(plain["losses"])


def scale_learning_rate(trainer: SAETrainer[Any, Any], factor: float) -> None:
    """Multiply the rest of a trainer's learning rate schedule by ``factor``."""
    for group in trainer.optimizer.param_groups:
        group["lr"] *= factor
        group["initial_lr"] *= factor
    schedulers: list[Any] = [trainer.lr_scheduler]
    while schedulers:
        scheduler = schedulers.pop()
        schedulers += getattr(scheduler, "_schedulers", [])
        for name in ("_last_lr", "base_lrs", "eta_min"):
            value = getattr(scheduler, name, None)
            if value is not None:
                setattr(scheduler, name, [lr * factor for lr in value] if isinstance(value, list) else value * factor)


def environment_changes(folder: Path, device: str | None = None) -> list[str]:
    """Describe the differences between the environment of a checkpoint and this one with ``device``."""
    then = json.loads((folder / STATE).read_text(encoding="utf-8"))["environment"]
    now = environment(device) | {"code": code_digest()}
    return [f"{key} {then[key]} then, {value} now" for key, value in now.items() if then.get(key, value) != value]
