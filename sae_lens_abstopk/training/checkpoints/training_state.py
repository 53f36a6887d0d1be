"""The state in a checkpoint: everything that later steps depend on, to the bit."""

import json
import pickle
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sae_lens import SAE, SAETrainer
from sae_lens.constants import TRAINER_STATE_FILENAME
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.provenance import CODE_DIGEST, environment
from sae_lens_abstopk.system.ranks import n_ranks, this_rank
from sae_lens_abstopk.training.run_folder import sae_folder
from sae_lens_abstopk.training.source.activation_source import SourcePosition
from sae_lens_abstopk.training.step_control import DivergenceWatch, EarlyStopping, L0Controller

STATE = "state.json"
STREAMS = "stream*.safetensors"


class TrainingState(NamedTuple):
    """The parts of a run that change from step to step."""

    trainers: Mapping[str, SAETrainer[Any, Any]]
    """Trainers by SAE name, ``"sae"`` first."""
    controllers: Mapping[str, L0Controller]
    watch: DivergenceWatch
    early: EarlyStopping


def save_state(
    folder: Path, state: TrainingState, *, metrics: Mapping[str, Path], text_files: list[list[str | int]]
) -> None:
    """
    Write a checkpoint into ``folder``, each companion into a subfolder, without changing the run.

    SAELens's files hold an SAE, its optimiser, schedule, firing counts and activation scale; this adds the rest, except
    for the position in the text (:func:`save_stream`). ``text_files`` and the environment are compared on resume.
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
        "best_held_out": {"fvu": state.early.best, "in_vain": state.early.in_vain},
        "text_files": text_files,
        "environment": environment(first.sae.device) | {"code": CODE_DIGEST},
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
    if "best_held_out" in plain:
        state.early.best, state.early.in_vain = plain["best_held_out"]["fvu"], plain["best_held_out"]["in_vain"]


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
    now = environment(device) | {"code": CODE_DIGEST}
    return [f"{key} {then[key]} then, {value} now" for key, value in now.items() if then.get(key, value) != value]


def save_stream(folder: Path, position: SourcePosition) -> None:
    """Write this rank's position and random states into a checkpoint."""
    tensors = {key: getattr(position, key).contiguous() for key in ("served", "waiting", "generator")}
    tensors["torch_random"] = torch.get_rng_state()
    for i, cuda_state in enumerate(torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []):
        tensors[f"cuda_random_{i}"] = cuda_state
    kind, keys, *numpy_rest = np.random.get_state(legacy=True)
    plain = {
        "n_blocks": position.n_blocks,
        "max_norm": position.max_norm,
        "python_random": random.getstate(),
        "numpy_random": [kind, np.asarray(keys).tolist(), *numpy_rest],
    }
    save_file(tensors, folder / _filename(this_rank()), metadata={"state": json.dumps(plain)})


def ranks_of(folder: Path) -> int:
    """Return the number of ranks that wrote a checkpoint."""
    return len(list(folder.glob(STREAMS)))


def load_stream(folder: Path, *, seed: int, blocks_are_shared: bool) -> SourcePosition:
    """
    Restore this rank's random states, and return the position of its source.

    If another number of ranks wrote the checkpoint, this rank skips its share of the batches that were read, and its
    mixing buffer starts empty. ``blocks_are_shared`` says that each rank reads a share of each block.
    """
    if ranks_of(folder) != n_ranks():
        plains = [_plain(path) for path in folder.glob(STREAMS)]
        generator = torch.Generator().manual_seed(seed + this_rank())
        read = [plain["n_blocks"] for plain in plains]
        n_blocks = min(read) if blocks_are_shared else sum(read) // n_ranks()
        nothing = torch.empty(0, 0)
        return SourcePosition(n_blocks, plains[0]["max_norm"], nothing, nothing, generator.get_state())
    path = folder / _filename(this_rank())
    plain, tensors = _plain(path), load_file(path)
    kind, internal, gauss = plain["python_random"]
    random.setstate((kind, tuple(internal), gauss))
    np.random.set_state(tuple(plain["numpy_random"]))
    torch.set_rng_state(tensors["torch_random"])
    for i in range(torch.cuda.device_count()):
        if f"cuda_random_{i}" in tensors:
            torch.cuda.set_rng_state(tensors[f"cuda_random_{i}"], i)
    position = (tensors[key] for key in ("served", "waiting", "generator"))
    return SourcePosition(plain["n_blocks"], plain["max_norm"], *position)


def _filename(rank: int) -> str:
    return f"stream-{rank}.safetensors" if rank else "stream.safetensors"


def _plain(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["state"])
