"""What a checkpoint holds: all that the steps after it depend on, to the bit."""

import json
import pickle
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sae_lens import SAE, SAETrainer, TrainingSAE
from sae_lens.constants import TRAINER_STATE_FILENAME

from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.provenance import code_digest, environment
from sae_lens_abstopk.training.divergence import DivergenceWatch
from sae_lens_abstopk.training.run_folder import sae_folder
from sae_lens_abstopk.training.target_l0 import L0Controller

STATE = "state.json"


class TrainingState(NamedTuple):
    """The parts of a run that its steps change."""

    trainers: Mapping[str, SAETrainer[Any, Any]]
    """By the name of the SAE, ``"sae"`` first."""
    controllers: Mapping[str, L0Controller]
    watch: DivergenceWatch


def save_state(
    folder: Path,
    state: TrainingState,
    *,
    metrics: Mapping[str, Path],
    text_files: list[list[str | int]],
) -> None:
    """
    Write a checkpoint's files into ``folder``, a companion's into a folder of its name in there; changes nothing.

    SAELens's files hold an SAE, its optimiser, schedule, firing counts and activation scale. Added are the coefficients
    that ``target_l0`` moves, the losses that divergence is judged by, and the rows of ``metrics`` so far. ``text_files``
    and the environment are there to be compared. :mod:`.stream_state` adds the rest.
    """
    first = state.trainers["sae"]
    for name, trainer in state.trainers.items():
        part = sae_folder(folder, name)
        # the base's method, as that of the signed SAEs first moves rows to norm 1, which a training run may not see
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
    """
    Bring a new run's parts to where :func:`save_state` found those of another.

    Raises:
        ConfigError: a file of the optimiser's state holds more than tensors and numbers; none of that is run.
    """
    for name, trainer in state.trainers.items():
        part = sae_folder(folder, name)
        try:
            trainer.load_trainer_state(part)  # torch.load, from 2.6 on with weights_only
        except pickle.UnpicklingError as error:
            raise ConfigError(
                f"{part / TRAINER_STATE_FILENAME} holds more than the state of an optimiser and could run code, so it is not "
                f"opened; resume from another checkpoint ({str(error).splitlines()[0][:100]})."
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
    """Multiply what is left of a trainer's schedule, from the present rate on to its end."""
    for group in trainer.optimizer.param_groups:
        group["lr"] *= factor
        group["initial_lr"] *= factor
    schedulers: list[Any] = [trainer.lr_scheduler]
    while schedulers:
        scheduler = schedulers.pop()
        schedulers += getattr(scheduler, "_schedulers", [])
        scheduler._last_lr = [lr * factor for lr in scheduler._last_lr]
        for name in ("base_lrs", "eta_min"):
            value = getattr(scheduler, name, None)
            if value is not None:
                setattr(scheduler, name, [lr * factor for lr in value] if isinstance(value, list) else value * factor)


def state_bytes(saes: Iterable[TrainingSAE[Any]], buffer_rows: int) -> int:
    """Size of a checkpoint, to a per cent or so: three times the weights, the firing counts and the mixing buffer."""
    total, width = 2**20, 0
    for sae in saes:
        tensors = [*sae.parameters(), *sae.parameters(), *sae.state_dict().values()]
        width = sae.cfg.d_in
        total += sum(tensor.nbytes for tensor in tensors) + 2 * 4 * sae.cfg.d_sae
    return total + 4 * buffer_rows * width


def environment_changes(folder: Path, device: str | None = None) -> list[str]:
    """How the environment that a checkpoint was written in differs from that of ``device`` here, a phrase for each difference."""
    then = json.loads((folder / STATE).read_text(encoding="utf-8"))["environment"]
    now = environment(device) | {"code": code_digest()}
    return [f"{key} {then[key]} then, {value} now" for key, value in now.items() if then.get(key, value) != value]
