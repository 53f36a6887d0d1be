"""Training one or several SAEs on one stream of activations, with SAELens's runner, store and trainer."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from traceback import clear_frames
from typing import Any, NamedTuple

import torch
from rich.console import Console
from sae_lens import LanguageModelSAETrainingRunner, SAETrainer, TrainingSAE
from sae_lens.constants import SAE_WEIGHTS_FILENAME
from typing_extensions import override

from sae_lens_abstopk.dictionary.reconstruction import Reconstruction
from sae_lens_abstopk.model.language_model import check_activations, check_hook, load_language_model
from sae_lens_abstopk.saes.centring import initialize_b_dec
from sae_lens_abstopk.saes.load_note import write_load_note
from sae_lens_abstopk.saes.signed_training import SignedTrainingSAE
from sae_lens_abstopk.saes.sparse_training import SparseTrainingSAE
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.folder_lock import require_free, run_locks
from sae_lens_abstopk.system.progress import TrainingProgress, passes_bar
from sae_lens_abstopk.system.ranks import OtherRankError, any_rank, barrier, this_rank, together
from sae_lens_abstopk.system.terminal_text import PrintableConsole
from sae_lens_abstopk.text.documents import load_text
from sae_lens_abstopk.training.activation_scales import estimate_scales, fold_scale
from sae_lens_abstopk.training.checkpoints.checkpoint import all_at_once
from sae_lens_abstopk.training.checkpoints.disk_space import require_room
from sae_lens_abstopk.training.checkpoints.resume import checkpoint_to_resume, refuse_to_overwrite
from sae_lens_abstopk.training.checkpoints.run_checkpoints import RunCheckpoints
from sae_lens_abstopk.training.checkpoints.training_state import TrainingState
from sae_lens_abstopk.training.config.checks import require_devices, require_safe_kernels
from sae_lens_abstopk.training.config.config_file import checked_again
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.distributed import of_this_rank
from sae_lens_abstopk.training.divergence import DivergedError, DivergenceWatch
from sae_lens_abstopk.training.held_out_loss import HeldOutLoss
from sae_lens_abstopk.training.interruption import Interrupted, StopSignals
from sae_lens_abstopk.training.metadata import keep_variants, note_run
from sae_lens_abstopk.training.metrics import held_out_metrics, step_metrics
from sae_lens_abstopk.training.run_folder import METRICS_FILENAME, sae_folder, write_config
from sae_lens_abstopk.training.source.activation_cache import ActivationCache
from sae_lens_abstopk.training.source.batch_stream import BatchStream, NoBatchError
from sae_lens_abstopk.training.source.lm_source import FilteredActivationsStore, saelens_notes_off
from sae_lens_abstopk.training.source.massive_activations import told_of_massive_norms
from sae_lens_abstopk.training.target_l0 import L0Controller
from sae_lens_abstopk.training.tracking.loggers import ConsoleLogger, CsvLogger, Loggers, MetricLogger
from sae_lens_abstopk.training.tracking.trackers import open_trackers, wandb_run
from sae_lens_abstopk.training.trainers import new_sae, new_trainer
from sae_lens_abstopk.training.warm_start import take_scales, warm_starts


class StepResult(NamedTuple):
    """What is kept of a step of one SAE: the codes of a dense SAE may be gigabytes, beside the step of the next."""

    loss: torch.Tensor
    metrics: dict[str, float]
    """Empty unless the step logs."""


class TrainingRun(LanguageModelSAETrainingRunner):
    """
    SAELens's training runner, with several SAEs to a stream and numbers in a file.

    The model, the metadata, the final files and the checkpoints are SAELens's; each SAE has a ``SAETrainer`` of its
    own, which this class drives through the seams that SAELens keeps for outside coordinators.

    Args:
        cfg: A checked config; ``cfg.output_path`` names the run folder.
        console: Where progress is shown.

    Raises:
        ConfigError: before the model's weights are read, if the device, the model, the hook, the text, the folder, the
            activation cache or the room on the disk will not do.
    """

    cfg: TrainingConfig  # type: ignore[assignment]
    """The config, with the device of this rank."""
    activations_store: FilteredActivationsStore
    trainers: dict[str, SAETrainer[Any, Any]]
    """By name of the SAE; set by :meth:`run`, as are the attributes below."""
    controllers: dict[str, L0Controller]
    watch: DivergenceWatch
    checkpoints: RunCheckpoints
    batches: BatchStream
    held_out_loss: HeldOutLoss | None = None
    """On the rank that leads, if the run measures it."""

    def __init__(self, cfg: TrainingConfig, *, console: Console | None = None) -> None:
        cfg = checked_again(cfg)
        if cfg.output_path is None:
            raise ConfigError("output_path is not set; name the folder that the run is to be written to.")
        self.output = Path(cfg.output_path)
        self.leads = this_rank() == 0
        """Whether this rank is the one that writes."""
        self.console = (console or PrintableConsole(markup=False)) if self.leads else Console(quiet=True)
        self.written_cfg = cfg
        """The config as it is written down, without the GPU of this rank."""
        if self.leads:  # to look is to hold the lock for a moment
            require_free(self.output)
        refuse_to_overwrite(self.written_cfg)
        self.resumed = checkpoint_to_resume(self.written_cfg, self.console)
        cfg = of_this_rank(self.written_cfg)
        require_devices(cfg)
        require_safe_kernels(cfg)
        cfg.logger.require_packages()
        if self.leads:
            with run_locks(self.output, self.written_cfg.checkpoint_path):
                pass  # a folder that cannot be written to is told before anything is loaded
        check_hook(cfg)
        self.starts = warm_starts(cfg) if self.resumed is None else {}
        """Where SAEs take their first weights from, by name."""
        dataset = load_text(cfg, "train")
        if cfg.perf_log_freq and cfg.held_out_every is not None:
            load_text(cfg, "held_out")  # too little text is told of before the model is loaded
        self.saes: dict[str, TrainingSAE[Any]] = {
            name: new_sae(sae_cfg, cfg.seed, weights_of=self.starts.get(name)).to(cfg.device)
            for name, sae_cfg in cfg.all_saes.items()
        }
        require_room(cfg, self.saes)
        if cfg.activation_cache is not None:
            ActivationCache.of_run(cfg).require_room(cfg)
        # in place of super().__init__, which would make a store that reads the head of the text for nothing
        self.cfg = cfg  # type: ignore[assignment]
        self.sae = self.saes["sae"]
        self.model = load_language_model(cfg)
        check_activations(self.model, cfg)
        self._compile_llm_if_needed()
        with saelens_notes_off():
            store = FilteredActivationsStore.for_training(self.model, cfg, dataset)
        self.activations_store = store  # type: ignore[assignment]
        torch.manual_seed(cfg.seed)
        if self.leads and cfg.perf_log_freq and cfg.held_out_every is not None:
            self.held_out_loss = HeldOutLoss(self.model, cfg, self.saes)

    @property
    def max_norm(self) -> float | None:
        """Norm above which tokens are left out."""
        return self.activations_store.max_norm

    @override
    def run(self) -> TrainingSAE[Any]:
        """Train, write the run folder, and return the first SAE."""
        barrier()  # before the folder changes, every rank has looked at it
        with ExitStack() as stack:
            stack.enter_context(torch.enable_grad())  # which notebooks that only look at models switch off
            if self.leads:
                stack.enter_context(run_locks(self.output, self.written_cfg.checkpoint_path))
                refuse_to_overwrite(self.written_cfg)  # another process may have been here since
            self._say(f"SAEs on {self.cfg.device}, language model on {self.cfg.llm_device}")
            if self.cfg.perf_log_freq and self.cfg.held_out_every is None:
                self._say("held_out_every is null, so there is no text to measure Loss Recovered on")
            self._prepare()
            if self.leads and self.cfg.logger.log_to_wandb:
                goes_on, config = self.resumed is not None, self.cfg.to_dict()
                stack.enter_context(wandb_run(self.cfg.logger, self.output, config, goes_on=goes_on, warn=self._say))
            loggers = {name: self._loggers(name) for name in self.saes}
            console = self.console  # self in the message would keep the run and its model in a cycle
            signals = StopSignals(
                lambda name: console.print(f"{name}: stopping after this step; send it again to stop immediately")
            )
            self.batches = BatchStream(
                self.activations_store, prefetch=int(self.cfg.prefetch_llm_batches), before_each=signals.raise_if_asked
            )
            try:
                with signals.caught():
                    self._fit_or_save_progress(loggers)
                    with together("writing the SAEs"):
                        for name in reversed(self.saes) if self.leads else ():
                            self._save_final(name)  # the first SAE last: its weights say that the run is done
                    signals.raise_if_asked()  # in the last step or since: the run is whole, and nothing is to follow it
            except DivergedError as error:
                raise DivergedError(self.checkpoints.advice(error)) from None
            finally:
                self.batches.close()
                for logger in loggers.values():
                    logger.close()
        return self.sae

    def _prepare(self) -> None:
        cfg = self.cfg
        self.trainers = {
            name: new_trainer(self.cfg, name, sae, self.activations_store) for name, sae in self.saes.items()
        }
        self.controllers = {
            name: L0Controller(self.trainers[name], target, cfg.total_training_steps)
            for name, target in cfg.target_l0.items()
        }
        self.watch = DivergenceWatch(cfg.divergence_factor)
        state = TrainingState(self.trainers, self.controllers, self.watch)
        metrics = {name: self.folder(name) / METRICS_FILENAME for name in self.saes}
        self.checkpoints = RunCheckpoints(self.written_cfg, state, metrics)
        if self.resumed is None:
            self.checkpoints.start_anew(self.console)
            take_scales(self.trainers, self.starts)
            for name in [name for name in self.saes if self.starts and name not in self.starts]:
                self._say(f"{name} starts from new weights: {cfg.from_pretrained_path} has no companion of that name")
        else:
            keep_variants(self.saes, self.resumed)
            position = self.checkpoints.restore(self.resumed, self.console)
            with passes_bar(self.console, "reading the text up to the checkpoint") as on_progress:
                self.activations_store.go_to(position, on_progress)
        self._set_sae_metadata()
        for name, sae in self.saes.items():
            if isinstance(sae, SparseTrainingSAE) and sae.cfg.sparse_backend != "dense" and not sae.takes_sparse_step():
                self._say(
                    f"{self.label(name)} trains on SAELens's dense step, several times as slow as the sparse kernels: these are for "
                    f"float32 and float64 (sae.dtype is {sae.cfg.dtype}), and for unchanged losses and selections"
                )
        if self.leads:
            write_config(self.output, self.written_cfg)

    def _fit_or_save_progress(self, loggers: Mapping[str, Loggers]) -> None:
        try:
            self._fit(loggers)
        except Interrupted:
            self.checkpoints.save_and_say(self.batches.position(), self.console)
            raise
        except NoBatchError as stopped:
            if self.trainers["sae"].n_training_steps:
                self.checkpoints.save_and_say(self.batches.position(), self.console)
            raise stopped.error from stopped.error.__cause__

    def _save_final(self, name: str) -> None:
        folder = self.folder(name)
        with all_at_once(folder, last=SAE_WEIGHTS_FILENAME) as staging:
            self.save_final_sae(self.saes[name], str(staging), self.trainers[name].log_feature_sparsity)
            write_load_note(staging, self.saes[name].cfg.get_inference_config_class().architecture())
            if (folder / "README.md").exists():  # somebody's own
                (staging / "README.md").unlink(missing_ok=True)

    def folder(self, name: str) -> Path:
        """Where the SAE ``name`` is written: the run folder, or for a companion a folder inside it."""
        return sae_folder(self.output, name)

    def _loggers(self, name: str) -> Loggers:
        if not self.leads:
            return Loggers([], self._say)
        loggers: list[MetricLogger] = [CsvLogger(self.folder(name) / METRICS_FILENAME)]
        if not self.console.is_terminal:
            loggers.append(ConsoleLogger(self.console, self.label(name), self.cfg.total_training_steps))
        own = self.trainers[name].cfg
        config = self.cfg.to_dict() | {"sae": self.saes[name].cfg.to_dict(), "companions": {}, "lr_multiples": {}}
        loggers += open_trackers(
            self.cfg.logger,
            self.label(name),
            self.folder(name),
            several=len(self.saes) > 1,
            first_step=self.trainers[name].n_training_steps + 1,
            config=config | {"lr": own.lr, "lr_end": own.lr_end},
            warn=self._say,
        )
        return Loggers(loggers, self._say)

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)

    def label(self, name: str) -> str:
        """What the SAE ``name`` is called on screen."""
        return self.saes[name].cfg.metadata.label or name

    def _fit(self, loggers: Mapping[str, Loggers]) -> None:
        cfg, trainers = self.cfg, self.trainers
        first = trainers["sae"]
        estimate_scales(trainers.values(), self.batches, n_batches=cfg.n_batches_for_norm_estimate)
        with TrainingProgress(self.console, cfg.total_training_steps * cfg.train_batch_size_tokens) as progress:
            progress.advance_to(first.n_training_samples)
            while first.n_training_steps < cfg.total_training_steps:
                batch = next(self.batches).to(cfg.device)
                step = first.n_training_steps + 1
                if step == 1 and (massive := told_of_massive_norms(batch, cfg)):
                    self._say(massive)
                last = step == cfg.total_training_steps
                measures = self._measures_loss(step, last)
                logs = measures or last or step == 1 or step % cfg.logger.wandb_log_frequency == 0
                taken: dict[str, StepResult] = {}
                for name in trainers:  # a comprehension, where it is a function, would hold the run beyond an error
                    taken[name] = self._step(name, batch, logs=logs)
                self.watch.note(
                    {self.saes[name].cfg.metadata.variant or name: taken[name].loss for name in taken}, step
                )
                progress.advance_to(first.n_training_samples)
                held_out = self._held_out() if measures else {}
                if logs:
                    for name, trainer in trainers.items():
                        metrics = taken[name].metrics | (held_out_metrics(held_out[name]) if name in held_out else {})
                        metrics["tokens_per_second"] = progress.tokens_per_second
                        loggers[name].log(metrics, step)
                        progress.show(self.label(name), metrics, d_sae=trainer.sae.cfg.d_sae)
                if not last:
                    self.checkpoints.save_when_due(self.batches.position)
                elif cfg.save_final_checkpoint:
                    self.checkpoints.save(self.batches.position())
        self.watch.look()
        self._finish()

    def _finish(self) -> None:
        """Bring the SAEs into the form that they are saved in."""
        for name, trainer in self.trainers.items():
            fold_scale(trainer)
            trainer.set_final_sae_metadata()
            if name in self.controllers:  # what is in the config is where it started
                trainer.sae.cfg.metadata.sparsity_coefficient = self.controllers[name].scheduler.value
                trainer.sae.cfg.metadata.target_l0 = self.cfg.target_l0[name]

    def _step(self, name: str, batch: torch.Tensor, *, logs: bool) -> StepResult:
        trainer = self.trainers[name]
        if trainer.n_training_steps == 0:
            self._center(trainer, batch)
        trainer.maybe_reset_sparsity()
        output = trainer.step(batch)
        if name in self.controllers:
            self.controllers[name].update(output)
        trainer.n_training_steps += 1
        # a loss of its own, as one in the graph of a compiled step is written over by the next
        return StepResult(output.loss.detach().clone(), step_metrics(trainer, output) if logs else {})

    def _center(self, trainer: SAETrainer[Any, Any], batch: torch.Tensor) -> None:
        # the signed SAEs do this themselves, so that they do it under SAELens's own runner too
        if not isinstance(trainer.sae, SignedTrainingSAE):
            initialize_b_dec(trainer.sae, trainer.activation_scaler(batch), self.cfg.b_dec_init_method)

    def _measures_loss(self, step: int, last: bool) -> bool:
        cfg = self.cfg
        return bool(cfg.perf_log_freq and cfg.held_out_every) and (last or step % cfg.perf_log_freq == 0)

    def _held_out(self) -> dict[str, Reconstruction]:
        """By SAE, on the rank that leads; where that fails, all ranks save progress and stop."""
        failed: Exception | None = None
        results: dict[str, Reconstruction] = {}
        try:
            if self.held_out_loss is not None:
                with self.batches.paused():  # a prefetching thread runs the same model
                    results = self.held_out_loss.measure(self.trainers)
        except Exception as error:
            clear_frames(error.__traceback__)  # what they hold on a GPU may leave no room to save
            failed = error
            if isinstance(error, ConfigError):
                failed = ConfigError(f"held-out text: {error} Or go on without measuring it, with perf_log_freq=0.")
        if any_rank(failed is not None):
            self.checkpoints.save_and_say(self.batches.position(), self.console)
            raise failed or OtherRankError("measuring Loss Recovered failed on rank 0; see its output for the reason.")
        return results

    @override
    def _set_sae_metadata(self) -> None:
        super()._set_sae_metadata()
        note_run(self.saes, self.cfg, max_norm=self.max_norm)
