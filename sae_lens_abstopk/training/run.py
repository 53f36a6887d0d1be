"""A training run over a source of activations: several SAEs a pass, exact resume and a run folder."""

from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from sae_lens import LanguageModelSAETrainingRunner, TrainingSAE
from sae_lens.constants import SAE_WEIGHTS_FILENAME

from sae_lens_abstopk.saes.load_note import write_load_note
from sae_lens_abstopk.saes.sparse_training import SparseTrainingSAE
from sae_lens_abstopk.system.errors import require_given
from sae_lens_abstopk.system.folder_lock import require_free, run_locks
from sae_lens_abstopk.system.ranks import barrier, this_rank, together
from sae_lens_abstopk.system.terminal import PrintableConsole, passes_bar
from sae_lens_abstopk.training.checkpoints.checkpoint import all_at_once
from sae_lens_abstopk.training.checkpoints.resume import checkpoint_to_resume, refuse_to_overwrite
from sae_lens_abstopk.training.checkpoints.run_checkpoints import RunCheckpoints, require_room
from sae_lens_abstopk.training.checkpoints.training_state import TrainingState
from sae_lens_abstopk.training.config.checks import require_machine
from sae_lens_abstopk.training.config.config_file import dump_config
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.distributed import of_this_rank
from sae_lens_abstopk.training.interruption import Interrupted, StoppedAfterTraining, StopSignals
from sae_lens_abstopk.training.metrics import HeldOut
from sae_lens_abstopk.training.run_folder import METRICS_FILENAME, keep_variants, note_run, sae_folder, write_config
from sae_lens_abstopk.training.source.activation_source import ActivationSource, BatchStream
from sae_lens_abstopk.training.step_control import DivergedError, DivergenceWatch, EarlyStopping, L0Controller
from sae_lens_abstopk.training.tracking.loggers import ConsoleLogger, CsvLogger, Loggers, MetricLogger
from sae_lens_abstopk.training.tracking.trackers import open_trackers, wandb_run
from sae_lens_abstopk.training.trainers import new_sae, new_trainer
from sae_lens_abstopk.training.training_loop import TrainingLoop
from sae_lens_abstopk.training.warm_start import take_scales, warm_starts


class Run(ABC):
    """
    A run; a subclass opens the source of activations.

    Each SAE has a ``SAETrainer`` of SAELens, which :class:`.TrainingLoop` drives through the seams that SAELens
    keeps for outside coordinators.
    """

    cfg: TrainingConfig
    """The config, with the device of this rank."""
    source: ActivationSource
    state: TrainingState
    """Set by :meth:`run`, as are the checkpoints."""
    checkpoints: RunCheckpoints
    held_out: HeldOut | None = None
    """Set on the first rank, if the run measures what is held out."""

    def __init__(self, cfg: TrainingConfig, *, console: Console | None = None) -> None:
        cfg = cfg.checked_again()
        require_given("output_path", cfg.output_path, "name the folder that the run is to be written to")
        dump_config(cfg)  # report a value that no file can hold
        self.output = Path(str(cfg.output_path))
        self.leads = this_rank() == 0
        """Whether this rank writes."""
        self.console = (console or PrintableConsole(stderr=True, markup=False)) if self.leads else Console(quiet=True)
        self.written_cfg = cfg  # without the GPU of this rank
        if self.leads:
            require_free(self.output)
        refuse_to_overwrite(cfg)
        self.resumed = checkpoint_to_resume(cfg, self.console)
        self.cfg = cfg = of_this_rank(cfg)
        require_machine(cfg)
        cfg.logger.require_packages()
        if self.leads:
            with run_locks(self.output, cfg.checkpoint_path):
                pass  # report an unwritable folder before anything is loaded
        self.starts = warm_starts(cfg) if self.resumed is None else {}
        """Folders with the initial weights of SAEs, by name."""
        self._check_source()
        seeds = dict.fromkeys(cfg.all_saes, cfg.seed) | cfg.weight_seeds
        self.saes: dict[str, TrainingSAE[Any]] = {
            name: new_sae(sae_cfg, seeds[name], weights_of=self.starts.get(name)).to(cfg.device)
            for name, sae_cfg in cfg.all_saes.items()
        }
        require_room(cfg, self.saes)
        self.source = self._open_source()
        torch.manual_seed(cfg.seed)
        if self.leads and cfg.measures:
            self.held_out = self._open_held_out()

    @abstractmethod
    def _check_source(self) -> None:
        """Raise a :class:`ConfigError` if the source does not allow the run, before anything large is read."""

    @abstractmethod
    def _open_source(self) -> ActivationSource:
        """Open what the run trains on."""

    @abstractmethod
    def _open_held_out(self) -> HeldOut:
        """Open what the run measures on."""

    def run(self) -> TrainingSAE[Any]:
        """Train, write the run folder, and return the first SAE."""
        barrier()  # the folder changes only after every rank has checked it
        with ExitStack() as stack:
            stack.enter_context(torch.enable_grad())  # notebooks may have switched gradients off
            if self.leads:
                stack.enter_context(run_locks(self.output, self.written_cfg.checkpoint_path))
                refuse_to_overwrite(self.written_cfg)  # another process may have written in the meantime
            if self.cfg.perf_log_freq and self.cfg.held_out_every is None:
                self._say("held_out_every is null, so nothing is held out to measure on")
            self._prepare()
            if self.leads and self.cfg.logger.log_to_wandb:
                goes_on, config = self.resumed is not None, self.cfg.to_dict()
                stack.enter_context(wandb_run(self.cfg.logger, self.output, config, goes_on=goes_on, warn=self._say))
            loggers = {name: self._loggers(name) for name in self.saes}
            signals, prefetch = StopSignals(self.console), int(self.cfg.prefetch_llm_batches)
            batches = BatchStream(self.source, prefetch=prefetch, before_each=signals.raise_if_asked)
            loop = TrainingLoop(
                cfg=self.cfg,
                state=self.state,
                checkpoints=self.checkpoints,
                batches=batches,
                loggers=loggers,
                console=self.console,
                held_out=self.held_out,
                raise_if_asked=signals.raise_if_asked,
            )
            try:
                with signals.caught():
                    loop.run()
                    with together("writing the SAEs"):
                        for name in reversed(self.saes) if self.leads else ():
                            self._save_final(name)  # the first SAE last: its weights mark the run as finished
                    try:
                        loop.log_last_step()
                    except Interrupted as cut:  # the run is complete, and nothing follows
                        raise StoppedAfterTraining(self.folders) from cut
            except DivergedError as error:
                raise DivergedError(self.checkpoints.advice(error)) from None
            finally:
                batches.close()
                for logger in loggers.values():
                    logger.close()
        return self.saes["sae"]

    @property
    def folders(self) -> dict[str, Path]:
        """Folders by SAE name: the run folder, and a subfolder for each companion."""
        return {name: sae_folder(self.output, name) for name in self.saes}

    def _prepare(self) -> None:
        """Make the trainers, restore a checkpoint or start anew, and write the config."""
        cfg = self.cfg
        trainers = {name: new_trainer(cfg, name, sae) for name, sae in self.saes.items()}
        controllers = {
            name: L0Controller(trainers[name], target, cfg.total_training_steps)
            for name, target in cfg.target_l0.items()
        }
        watch, early = DivergenceWatch(cfg.divergence_factor), EarlyStopping(cfg.early_stopping_patience)
        self.state = TrainingState(trainers, controllers, watch, early)
        self.checkpoints = RunCheckpoints(self.written_cfg, self.state, self.console)
        if self.resumed is None:
            self.checkpoints.start_anew()
            take_scales(trainers, self.starts)
            for name in [name for name in self.saes if self.starts and name not in self.starts]:
                self._say(f"{name} starts from new weights: {cfg.from_pretrained_path} has no companion of that name")
        else:
            keep_variants(self.saes, self.resumed)
            position = self.checkpoints.restore(self.resumed)
            with passes_bar(self.console, "reading up to the checkpoint") as on_progress:
                self.source.go_to(position, on_progress)
        note_run(self.saes, cfg, self.source.metadata())
        for sae in self.saes.values():
            if isinstance(sae, SparseTrainingSAE) and sae.cfg.sparse_backend != "dense" and not sae.takes_sparse_step():
                self._say(
                    f"{sae.cfg.metadata.label} trains on SAELens's dense step, several times as slow as the sparse "
                    f"kernels: these are for float32 and float64 (sae.dtype is {sae.cfg.dtype}), and for unchanged "
                    "losses and selections"
                )
        if self.leads:
            write_config(self.output, self.written_cfg)

    def _save_final(self, name: str) -> None:
        folder = self.folders[name]
        with all_at_once(folder, last=SAE_WEIGHTS_FILENAME) as staging:
            sparsity, saelens_runner = self.state.trainers[name].log_feature_sparsity, LanguageModelSAETrainingRunner
            saelens_runner.save_final_sae(cast(Any, self), self.saes[name], str(staging), sparsity)
            (staging / "README.md").unlink(missing_ok=True)  # the SAE's own has the name of the staging folder
            if not (folder / "README.md").exists():  # the user's own
                architecture = self.saes[name].cfg.get_inference_config_class().architecture()
                write_load_note(staging, architecture, folder=folder)

    def _loggers(self, name: str) -> Loggers:
        if not self.leads:
            return Loggers([], self._say)
        folder, trainer = self.folders[name], self.state.trainers[name]
        label = str(trainer.sae.cfg.metadata.label)
        loggers: list[MetricLogger] = [CsvLogger(folder / METRICS_FILENAME)]
        if not self.console.is_terminal and self._is_shown(name):
            loggers.append(ConsoleLogger(self.console, label, self.cfg.total_training_steps))
        loggers += open_trackers(self.cfg, trainer, label, folder, self._say)
        return Loggers(loggers, self._say)

    def _is_shown(self, name: str) -> bool:  # noqa: ARG002  # for subclasses
        """Return whether the numbers of an SAE are printed where there is no terminal."""
        return True

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)
