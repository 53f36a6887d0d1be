"""Save and restore the checkpoints of one run, and the disk space that they take."""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from sae_lens import TrainingSAE

from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.files import lack_of_space, require_space, write_whole
from sae_lens_abstopk.system.ranks import any_rank, least, n_ranks, this_rank, together
from sae_lens_abstopk.system.yaml_files import CONFIG_FILENAME, read_yaml
from sae_lens_abstopk.text.text_files import text_files
from sae_lens_abstopk.training.checkpoints.checkpoint import (
    CheckpointError,
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
    load_stream,
    ranks_of,
    save_state,
    save_stream,
    scale_learning_rate,
)
from sae_lens_abstopk.training.config.training_config import NEWEST, TrainingConfig
from sae_lens_abstopk.training.distributed import command_prefix
from sae_lens_abstopk.training.run_folder import METRICS_FILENAME, checkpoint_root, sae_folder, write_config
from sae_lens_abstopk.training.source.activation_source import SourcePosition
from sae_lens_abstopk.training.step_control import DivergedError


class RunCheckpoints:
    """The checkpoints of a run."""

    def __init__(self, cfg: TrainingConfig, state: TrainingState, console: Console) -> None:
        self.cfg, self.state, self.console = cfg, state, console
        self.root, output = checkpoint_root(cfg), Path(cfg.output_path or "")
        self.metrics = {name: sae_folder(output, name) / METRICS_FILENAME for name in state.trainers}
        """Metrics files by SAE."""
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
        """Save a checkpoint and keep the newest ``checkpoints_kept``; keep fewer if space is short."""
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

    def save_and_say(self, position: SourcePosition) -> None:
        """Save a checkpoint as the run stops, and print the command that resumes it."""
        step = self.state.trainers["sae"].n_training_steps
        if step == 0:
            self._say("stopped before the first step; there is nothing to save")
            return
        in_python = f"(in Python: resume_from_checkpoint={NEWEST!r})"
        self._say(f"stopped after step {step}; progress is in {self.save(position)} {in_python}")
        self._say(f"go on with: {command_prefix()} train {self._config_path()} --resume")

    def restore(self, folder: Path) -> SourcePosition:
        """Load the state and metrics of the checkpoint ``folder``; return the position in the text."""
        load_state(folder, self.state)
        position = load_stream(folder, seed=self.cfg.seed, blocks_are_shared=self.cfg.source == "vectors")
        self._newest = folder
        first = self.state.trainers["sae"]
        step = torch.tensor([first.n_training_steps, -first.n_training_steps])
        if int(least(step).sum()):
            place = f"output_path={self.cfg.output_path!r}"
            raise ConfigError(f"{place} is not the same folder for all ranks; put it on a shared file system.")
        if this_rank() == 0:
            remove_partial(self.root)
            for path in set_newer_aside(self.root, folder, first.n_training_samples):
                self._say(f"a newer checkpoint was renamed to {path}")
            for name, path in self.metrics.items():
                # the row of the last step follows its checkpoint
                if first.n_training_steps == self.cfg.total_training_steps and path.is_file():
                    continue
                if (kept := sae_folder(folder, name) / path.name).is_file():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_whole(path, kept.read_text(encoding="utf-8"))
                else:
                    path.unlink(missing_ok=True)
        self._say(f"going on after step {first.n_training_steps} from {folder}")
        then = read_yaml(folder / CONFIG_FILENAME)
        if (lr_then := float(then["lr"])) != self.cfg.lr:
            for trainer in self.state.trainers.values():
                scale_learning_rate(trainer, self.cfg.lr / lr_then)
            self._say(f"lr is {self.cfg.lr:g} from here on, {lr_then:g} up to here")
        if (n_then := ranks_of(folder)) != n_ranks():
            new_run = "the text is redistributed, some of it read twice or left out: this is a different run"
            self._say(f"the checkpoint was written by {n_then} ranks and is resumed on {n_ranks()}: {new_run}")
        changes = environment_changes(folder, self.cfg.device)
        if (device_then := then.get("device")) != self.cfg.device:
            changes.append(f"device={device_then} then, {self.cfg.device} now")
        if changes:
            to_the_bit = "the numbers will not be those of an uninterrupted run to the last bit"
            self._say(f"{to_the_bit}: {'; '.join(changes)}")
        return position

    def start_anew(self) -> None:
        """Start at the first step, with empty metrics."""
        if self.cfg.resume_from_checkpoint == NEWEST:
            self._say(f"no whole checkpoint in {self.root}; starting from the beginning")
            for path in self.metrics.values() if this_rank() == 0 else ():
                path.unlink(missing_ok=True)

    def advice(self, error: DivergedError) -> str:
        """Advise what to do about a run that has diverged."""
        cfg, (newest, _) = self.cfg, newest_checkpoint(self.root)
        last = "No checkpoint was saved."
        if newest is not None:
            last = (
                f"The last good checkpoint is {newest} (step {int(newest.name) // cfg.train_batch_size_tokens:,}); go "
                f"on from it at a lower lr with: {command_prefix()} train {self._config_path()} lr={cfg.lr / 3:.2g} "
                "--resume --allow-changes lr"
            )
        return (
            f"{error}: the run has diverged. Lower lr={cfg.lr:g}, or in a new run raise "
            f"lr_warm_up_steps={cfg.lr_warm_up_steps}. {last}"
        )

    def _config_path(self) -> str:
        return shlex.quote(str(Path(self.cfg.output_path or "") / CONFIG_FILENAME))

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)


def checkpoint_bytes(cfg: TrainingConfig, saes: Mapping[str, TrainingSAE[Any]]) -> int:
    """Bound a checkpoint's size: three times the weights, the firing counts and the mixing buffer."""
    of_saes = 0
    for sae in saes.values():
        tensors = [*sae.parameters(), *sae.parameters(), *sae.state_dict().values()]
        of_saes += sum(tensor.nbytes for tensor in tensors) + 2 * 4 * sae.cfg.d_sae
    # the buffer, and the largest block that it may hold in addition
    rows = (cfg.n_batches_in_buffer + cfg.store_batch_size_prompts) * cfg.text_spec.kept_positions * n_ranks()
    return 2**20 + of_saes + 4 * rows * saes["sae"].cfg.d_in


def require_room(cfg: TrainingConfig, saes: Mapping[str, TrainingSAE[Any]]) -> None:
    """Raise ConfigError if the final SAEs and the checkpoints that exist at one time do not fit on the disk."""
    root, output = checkpoint_root(cfg), Path(cfg.output_path or "")
    needed = {output: sum(weight.nbytes for sae in saes.values() for weight in sae.state_dict().values())}
    remedy = "free some space, or name another output_path"
    if cfg.checkpoint_freq or cfg.save_final_checkpoint:
        on_the_way = (cfg.total_training_steps - 1) // cfg.checkpoint_freq if cfg.checkpoint_freq else 0
        n_saved = max(1, on_the_way + cfg.save_final_checkpoint)
        # the oldest is deleted after a new one is whole
        n = max(0, min(cfg.checkpoints_kept + 1, n_saved) - len(checkpoints(root)))
        disk = output if cfg.checkpoint_path is None else root
        needed[disk] = needed.get(disk, 0) + n * checkpoint_bytes(cfg, saes)
        remedy = (
            f"free some space, lower checkpoints_kept={cfg.checkpoints_kept}, or save no checkpoints "
            "(checkpoint_freq=0, save_final_checkpoint=false)"
        )
    for folder, n_bytes in needed.items():
        require_space(folder, n_bytes, "what the run saves", remedy=remedy)
