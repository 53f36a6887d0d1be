"""The checkpoints of one run: when one may be saved, what it holds, and a run brought to where one was."""

import shlex
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from sae_lens import TrainingSAE

from sae_lens_abstopk.model.run_record import CONFIG_FILENAME
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.files import lack_of_space
from sae_lens_abstopk.system.ranks import any_rank, least, n_ranks, this_rank, together
from sae_lens_abstopk.system.yaml_files import read_yaml
from sae_lens_abstopk.text.text_files import text_files
from sae_lens_abstopk.training.checkpoints.checkpoint import (
    CheckpointError,
    checkpoint_step,
    checkpoints,
    keep_newest,
    new_checkpoint,
    newest_checkpoint,
    remove_partial,
    set_newer_aside,
)
from sae_lens_abstopk.training.checkpoints.training_state import (
    TrainingState,
    environment_changes,
    load_state,
    save_state,
    scale_learning_rate,
    state_bytes,
)
from sae_lens_abstopk.training.config.training_config import NEWEST, TrainingConfig
from sae_lens_abstopk.training.distributed import command_prefix, note_on_ranks
from sae_lens_abstopk.training.divergence import DivergedError
from sae_lens_abstopk.training.run_folder import checkpoint_root, sae_folder, write_config
from sae_lens_abstopk.training.source.activation_source import SourcePosition
from sae_lens_abstopk.training.source.stream_state import load_stream, ranks_of, save_stream


def checkpoint_bytes(cfg: TrainingConfig, saes: Mapping[str, TrainingSAE[Any]]) -> int:
    """Room that a checkpoint of the run may take at most."""
    positions = len(range(cfg.context_size)[slice(*cfg.seqpos_slice)])
    # the buffer and the largest block that may lie in it beside its own rows
    rows = (cfg.n_batches_in_buffer + cfg.store_batch_size_prompts) * positions * n_ranks()
    return state_bytes(saes.values(), rows)


def require_room(cfg: TrainingConfig, saes: Mapping[str, TrainingSAE[Any]]) -> None:
    """
    Refuse a run whose files do not fit on the disk: the final SAEs, and the checkpoints that are there at one time.

    Raises:
        ConfigError: there is no room for them.
    """
    root, output = checkpoint_root(cfg), Path(cfg.output_path or "")
    needed = {output: sum(weight.nbytes for sae in saes.values() for weight in sae.state_dict().values())}
    remedy = "free some, or choose another output_path"
    if cfg.checkpoint_freq or cfg.save_final_checkpoint:
        on_the_way = (cfg.total_training_steps - 1) // cfg.checkpoint_freq if cfg.checkpoint_freq else 0
        n_due = max(1, on_the_way + cfg.save_final_checkpoint)
        # the oldest is deleted when a new one is whole
        n = max(0, min(cfg.checkpoints_kept + 1, n_due) - len(checkpoints(root)))
        disk = output if cfg.checkpoint_path is None else root
        needed[disk] = needed.get(disk, 0) + n * checkpoint_bytes(cfg, saes)
        remedy = (
            f"free some, lower checkpoints_kept={cfg.checkpoints_kept}, or set checkpoint_freq=0 and save_final_checkpoint=false to "
            "save no checkpoints"
        )
    for folder, n_bytes in needed.items():
        if lack := lack_of_space(folder, n_bytes, "what the run saves"):
            raise ConfigError(f"{lack}; {remedy}.")


class RunCheckpoints:
    """
    Saves and restores the state of a run, in the folder that ``cfg`` names.

    Args:
        cfg: Of the run.
        state: What the steps change.
        metrics: The file of metrics of each SAE, by name.
    """

    def __init__(self, cfg: TrainingConfig, state: TrainingState, metrics: Mapping[str, Path]) -> None:
        self.cfg, self.state, self.metrics = cfg, state, metrics
        self.root = checkpoint_root(cfg)
        self._text_files = text_files(cfg.dataset_path)  # as the run found them: they may be moved away meanwhile
        self._newest: Path | None = None
        """Saved or restored last."""
        self._due = False
        self.n_bytes = checkpoint_bytes(cfg, {name: trainer.sae for name, trainer in state.trainers.items()})

    def save_when_due(self, position: Callable[[], SourcePosition]) -> None:
        """Save a checkpoint after every ``cfg.checkpoint_freq`` steps; one that falls on a loss that has leapt waits for it to come down."""
        frequency, step = self.cfg.checkpoint_freq, self.state.trainers["sae"].n_training_steps
        self._due |= frequency > 0 and step % frequency == 0
        if self._due and self.state.watch.calm():
            self.save(position())
            self._due = False

    def save(self, position: SourcePosition) -> Path:
        """
        Save a checkpoint between two steps, and delete those that are one too many.

        Where room lacks, older ones than the last are deleted first. Every rank writes where its own text is; the first writes all else.

        Raises:
            DivergedError: the state is not worth keeping.
            CheckpointError: the disk has no room for it, or it cannot be written.
        """
        self.state.watch.look()
        first = self.state.trainers["sae"]
        folder = self.root / str(first.n_training_samples)
        if folder == self._newest:  # stopped again before a step was taken
            return folder
        for name, trainer in self.state.trainers.items():
            if not all(weight.isfinite().all() for weight in trainer.sae.parameters()):
                raise DivergedError(f"weights of {name!r} are NaN or infinite after step {first.n_training_steps:,}")
        with together(f"making room for {folder}"):
            there = checkpoints(self.root) if this_rank() == 0 else []
            while len(there) > 1 and lack_of_space(self.root, self.n_bytes) is not None:
                keep_newest(there[0], len(there) - 1)
                there.pop()
        lack = lack_of_space(self.root, self.n_bytes)
        if any_rank(lack is not None):
            raise CheckpointError(
                f"{lack or 'the disk of another rank has no room for a checkpoint'}; the last one saved is intact. Free some space, then continue with --resume."
            )
        with together(f"writing {folder}"), new_checkpoint(folder, step=first.n_training_steps) as partial:
            with together(f"writing {folder}"):
                if this_rank() == 0:
                    save_state(partial, self.state, metrics=self.metrics, text_files=self._text_files)
                    write_config(partial, self.cfg)
            with together(f"writing {folder}"):
                save_stream(partial, position)
        self._newest = folder
        if this_rank() == 0:
            keep_newest(folder, self.cfg.checkpoints_kept)
        return folder

    def save_and_say(self, position: SourcePosition, console: Console) -> None:
        """Save a checkpoint as the run stops, and say where it is."""
        step = self.state.trainers["sae"].n_training_steps
        if step == 0:
            console.print("stopped before the first step; there is nothing to save")
            return
        folder = self.save(position)
        config = shlex.quote(str(Path(self.cfg.output_path or "") / CONFIG_FILENAME))
        console.print(
            f"stopped after step {step}; progress is in {folder} (in Python, resume_from_checkpoint={NEWEST!r} goes on from there)\n"
            f"go on with: {command_prefix()} train {config} --resume",
            markup=False,
            soft_wrap=True,
        )

    def restore(self, folder: Path, console: Console) -> SourcePosition:
        """Bring the state and the metrics to where ``folder`` has them; returns where the text goes on."""
        load_state(folder, self.state)
        position = load_stream(folder, seed=self.cfg.seed)
        self._newest = folder
        step = self.state.trainers["sae"].n_training_steps
        if int(least(torch.tensor(step))) != int(-least(torch.tensor(-step))):
            raise ConfigError(
                f"output_path={self.cfg.output_path!r} is not the same folder for all ranks; put it on a file system that "
                "all nodes share."
            )
        if this_rank() == 0:
            remove_partial(self.root)
            for path in set_newer_aside(self.root, folder, self.state.trainers["sae"].n_training_samples):
                console.print(f"a newer checkpoint was renamed to {path}", markup=False, soft_wrap=True)
            for name, path in self.metrics.items():
                _put_back(sae_folder(folder, name) / path.name, path)
        console.print(f"going on after step {step} from {folder}", markup=False, soft_wrap=True)
        then = read_yaml(folder / CONFIG_FILENAME)
        lr_then, device_then = float(then["lr"]), then.get("device")
        if lr_then != self.cfg.lr:  # it is allowed, or the checkpoint had been refused
            for trainer in self.state.trainers.values():
                scale_learning_rate(trainer, self.cfg.lr / lr_then)
            console.print(f"lr is {self.cfg.lr:g} from here on, {lr_then:g} up to here")
        note = note_on_ranks(n_ranks(), ranks_of(folder))
        if note is not None:
            console.print(note, markup=False, soft_wrap=True)
        changes = environment_changes(folder, self.cfg.device)
        changes += [f"device={device_then} then, {self.cfg.device} now"] if device_then != self.cfg.device else []
        if changes:
            console.print(
                f"the numbers will not be those of an uninterrupted run to the last bit: {'; '.join(changes)}",
                markup=False,
                soft_wrap=True,
            )
        return position

    def start_anew(self, console: Console) -> None:
        """Begin at the first step, where nothing had been saved yet."""
        if self.cfg.resume_from_checkpoint == NEWEST:
            console.print(
                f"no whole checkpoint in {self.root}; starting from the beginning", markup=False, soft_wrap=True
            )
            for path in self.metrics.values() if this_rank() == 0 else ():
                path.unlink(missing_ok=True)

    def advice(self, error: DivergedError) -> str:
        """What to do about a run that has diverged."""
        cfg, (newest, _) = self.cfg, newest_checkpoint(self.root)
        last = "No checkpoint had been saved."
        if newest is not None:
            config = shlex.quote(str(Path(cfg.output_path or "") / CONFIG_FILENAME))
            last = (
                f"The last good checkpoint is {newest} (step {checkpoint_step(newest):,}); go on from it at a lower lr with: "
                f"{command_prefix()} train {config} lr={cfg.lr / 3:.2g} --resume --allow-changes lr"
            )
        return (
            f"{error}: the run has diverged. Lower lr={cfg.lr:g}, or in a new run raise "
            f"lr_warm_up_steps={cfg.lr_warm_up_steps}. {last}"
        )


def _put_back(source: Path, target: Path) -> None:
    """Make ``target`` what ``source`` is; at any time it is one of the two."""
    if not source.is_file():
        target.unlink(missing_ok=True)
        return
    partial = target.with_name(f".{target.name}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, partial)
    partial.replace(target)
