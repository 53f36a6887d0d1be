"""Save and restore the checkpoints of one run."""

import shlex
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from rich.console import Console

from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.files import lack_of_space
from sae_lens_abstopk.system.ranks import any_rank, least, n_ranks, this_rank, together
from sae_lens_abstopk.system.yaml_files import CONFIG_FILENAME, read_yaml
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
from sae_lens_abstopk.training.checkpoints.disk_space import checkpoint_bytes
from sae_lens_abstopk.training.checkpoints.training_state import (
    TrainingState,
    environment_changes,
    load_state,
    save_state,
    scale_learning_rate,
)
from sae_lens_abstopk.training.config.training_config import NEWEST, TrainingConfig
from sae_lens_abstopk.training.distributed import command_prefix
from sae_lens_abstopk.training.divergence import DivergedError
from sae_lens_abstopk.training.run_folder import checkpoint_root, sae_folder, write_config
from sae_lens_abstopk.training.source.activation_source import SourcePosition
from sae_lens_abstopk.training.source.stream_state import load_stream, ranks_of, save_stream


class RunCheckpoints:
    """The checkpoints of a run; ``metrics`` are the metrics files by SAE."""

    def __init__(self, cfg: TrainingConfig, state: TrainingState, metrics: Mapping[str, Path]) -> None:
        self.cfg, self.state, self.metrics = cfg, state, metrics
        self.root = checkpoint_root(cfg)
        self._text_files = text_files(cfg.dataset_path)  # read now: they may be moved away during the run
        self._newest: Path | None = None
        """The checkpoint that was saved or restored last."""
        self._due = False
        self.n_bytes = checkpoint_bytes(cfg, {name: trainer.sae for name, trainer in state.trainers.items()})

    def save_when_due(self, position: Callable[[], SourcePosition]) -> None:
        """Save every ``cfg.checkpoint_freq`` steps; while the loss is too high, wait."""
        frequency, step = self.cfg.checkpoint_freq, self.state.trainers["sae"].n_training_steps
        self._due |= frequency > 0 and step % frequency == 0
        if self._due and self.state.watch.calm():
            self.save(position())
            self._due = False

    def save(self, position: SourcePosition) -> Path:
        """
        Save a checkpoint and keep the newest ``checkpoints_kept``; keep fewer if space is short.

        Raises:
            DivergedError: the loss has diverged, or weights are not finite.
            CheckpointError: the disk is full, or the checkpoint cannot be written.
        """
        self.state.watch.look()
        first = self.state.trainers["sae"]
        folder = self.root / str(first.n_training_samples)
        if folder == self._newest:  # stopped again before a step
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
                f"{lack or 'another rank has no room for a checkpoint'}; the last one is intact. Free some space, then "
                "continue with --resume."
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
        """Save a checkpoint as the run stops, and print the command that resumes it."""
        step = self.state.trainers["sae"].n_training_steps
        if step == 0:
            _say(console, "stopped before the first step; there is nothing to save")
            return
        folder = self.save(position)
        _say(
            console,
            f"stopped after step {step}; progress is in {folder} (in Python: resume_from_checkpoint={NEWEST!r})",
        )
        _say(console, f"go on with: {command_prefix()} train {self._config_path()} --resume")

    def restore(self, folder: Path, console: Console) -> SourcePosition:
        """Load the state and metrics of the checkpoint ``folder``; return the position in the text."""
        load_state(folder, self.state)
        position = load_stream(folder, seed=self.cfg.seed)
        self._newest = folder
        first = self.state.trainers["sae"]
        step = torch.tensor([first.n_training_steps, -first.n_training_steps])
        if int(least(step).sum()):
            place = f"output_path={self.cfg.output_path!r}"
            raise ConfigError(f"{place} is not the same folder for all ranks; put it on a shared file system.")
        if this_rank() == 0:
            remove_partial(self.root)
            for path in set_newer_aside(self.root, folder, first.n_training_samples):
                _say(console, f"a newer checkpoint was renamed to {path}")
            for name, path in self.metrics.items():
                _replace(path, sae_folder(folder, name) / path.name)
        _say(console, f"going on after step {first.n_training_steps} from {folder}")
        then = read_yaml(folder / CONFIG_FILENAME)
        if (lr_then := float(then["lr"])) != self.cfg.lr:
            for trainer in self.state.trainers.values():
                scale_learning_rate(trainer, self.cfg.lr / lr_then)
            _say(console, f"lr is {self.cfg.lr:g} from here on, {lr_then:g} up to here")
        if (n_then := ranks_of(folder)) != n_ranks():
            new_run = "the text is redistributed, some of it read twice or left out: this is a different run"
            _say(console, f"the checkpoint was written by {n_then} ranks and is resumed on {n_ranks()}: {new_run}")
        changes = environment_changes(folder, self.cfg.device)
        if (device_then := then.get("device")) != self.cfg.device:
            changes.append(f"device={device_then} then, {self.cfg.device} now")
        if changes:
            to_the_bit = "the numbers will not be those of an uninterrupted run to the last bit"
            _say(console, f"{to_the_bit}: {'; '.join(changes)}")
        return position

    def start_anew(self, console: Console) -> None:
        """Start at the first step, with empty metrics."""
        if self.cfg.resume_from_checkpoint == NEWEST:
            _say(console, f"no whole checkpoint in {self.root}; starting from the beginning")
            for path in self.metrics.values() if this_rank() == 0 else ():
                path.unlink(missing_ok=True)

    def advice(self, error: DivergedError) -> str:
        """Advise what to do about a run that has diverged."""
        cfg, (newest, _) = self.cfg, newest_checkpoint(self.root)
        last = "No checkpoint was saved."
        if newest is not None:
            last = (
                f"The last good checkpoint is {newest} (step {checkpoint_step(newest):,}); go on from it at a lower lr "
                f"with: {command_prefix()} train {self._config_path()} lr={cfg.lr / 3:.2g} --resume --allow-changes lr"
            )
        return (
            f"{error}: the run has diverged. Lower lr={cfg.lr:g}, or in a new run raise "
            f"lr_warm_up_steps={cfg.lr_warm_up_steps}. {last}"
        )

    def _config_path(self) -> str:
        return shlex.quote(str(Path(self.cfg.output_path or "") / CONFIG_FILENAME))


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)


def _replace(target: Path, source: Path) -> None:
    """Atomically replace ``target`` by a copy of ``source``, or remove it if ``source`` is missing."""
    if not source.is_file():
        target.unlink(missing_ok=True)
        return
    partial = target.with_name(f".{target.name}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, partial)
    partial.replace(target)
