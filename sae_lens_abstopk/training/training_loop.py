"""The training loop: several SAEs train in one pass over the batches of a source."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import count
from traceback import clear_frames
from typing import Any

import torch
from rich.console import Console
from sae_lens import SAETrainer

from sae_lens_abstopk.model.reconstruction import Reconstruction
from sae_lens_abstopk.saes.centring import initialize_b_dec
from sae_lens_abstopk.saes.signed_training import SignedTrainingSAE
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.ranks import OtherRankError, any_rank
from sae_lens_abstopk.system.terminal import TrainingProgress, passes_bar
from sae_lens_abstopk.training.checkpoints.run_checkpoints import RunCheckpoints
from sae_lens_abstopk.training.checkpoints.training_state import TrainingState
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.interruption import Interrupted
from sae_lens_abstopk.training.metrics import HeldOut, held_out_metrics, massive_norms_warning, step_metrics
from sae_lens_abstopk.training.source.activation_source import BatchStream, NoBatchError
from sae_lens_abstopk.training.thresholds import set_thresholds
from sae_lens_abstopk.training.tracking.loggers import Loggers
from sae_lens_abstopk.training.trainers import estimate_scales, fold_scale

Metrics = dict[str, dict[str, float]]
"""Metrics of a step by SAE; empty unless the step logs."""


@dataclass
class TrainingLoop:
    """The steps of a run and everything that happens between two of them."""

    cfg: TrainingConfig
    state: TrainingState
    checkpoints: RunCheckpoints
    batches: BatchStream
    loggers: Mapping[str, Loggers]
    console: Console
    held_out: HeldOut | None
    """Set on the first rank, if the run measures what is held out."""
    raise_if_asked: Callable[[], None]
    """Raises :class:`.Interrupted` once a signal has asked the run to stop."""
    _last: tuple[Metrics, float] | None = None
    """Metrics of the last step, which are not logged yet, and the speed of training."""

    def run(self) -> None:
        """Take the remaining steps; when interrupted, save progress first."""
        try:
            self._steps()
        except Interrupted:
            self.checkpoints.save_and_say(self.batches.position())
            raise
        except NoBatchError as stopped:
            if self._first.n_training_steps:
                self.checkpoints.save_and_say(self.batches.position())
            (error,) = stopped.args
            raise error from error.__cause__

    @property
    def _first(self) -> SAETrainer[Any, Any]:
        return self.state.trainers["sae"]

    def _steps(self) -> None:
        cfg, first = self.cfg, self._first
        estimate_scales(self.state.trainers.values(), self.batches, n_batches=cfg.n_batches_for_norm_estimate)
        with TrainingProgress(self.console, cfg.total_training_steps * cfg.train_batch_size_tokens) as progress:
            progress.advance_to(first.n_training_samples)
            filling: AbstractContextManager[None] = progress.not_counted()  # before the first batch
            while first.n_training_steps < cfg.total_training_steps:
                with filling:
                    batch = next(self.batches).to(cfg.device)
                filling = nullcontext()
                step = first.n_training_steps + 1
                last = step == cfg.total_training_steps
                if step == 1 and (warning := massive_norms_warning(batch, cfg)):
                    self.console.print(warning, markup=False, soft_wrap=True)
                measures = cfg.measures and not last and step % cfg.perf_log_freq == 0
                logs = measures or last or step == 1 or step % cfg.logger.wandb_log_frequency == 0
                losses: dict[str, torch.Tensor] = {}
                metrics: Metrics = {}
                for name, trainer in self.state.trainers.items():
                    loss, metrics[name] = self._step(name, batch, logs=logs)
                    losses[trainer.sae.cfg.metadata.variant or name] = loss
                self.state.watch.note(losses, step)
                progress.advance_to(first.n_training_samples)
                held_out: dict[str, Reconstruction] = {}
                if measures:
                    with progress.not_counted():
                        held_out = self._measure_held_out(self.raise_if_asked)
                stops = measures and self._learns_no_more(held_out, step)
                if logs:
                    for name, trainer in self.state.trainers.items():
                        label = trainer.sae.cfg.metadata.label or name
                        progress.show(label, metrics[name], d_sae=trainer.sae.cfg.d_sae)
                if last:
                    self._last = metrics, progress.tokens_per_second
                elif logs:
                    self._log(metrics, held_out, step, progress.tokens_per_second)
                if not last and not stops:
                    self.checkpoints.save_when_due(self.batches.position)
                elif cfg.save_final_checkpoint:
                    self.checkpoints.save(self.batches.position())
                if stops:
                    break
        self.state.watch.look()
        self._finish()

    def _learns_no_more(self, held_out: Mapping[str, Reconstruction], step: int) -> bool:
        """Say so and return True on all ranks if training should end before its last step."""
        early = self.state.early
        stops = any_rank(bool(held_out) and early.note({name: found.fvu for name, found in held_out.items()}))
        if stops:
            self.console.print(
                f"stopping at step {step:,}: held_out_fvu has not fallen in {early.in_vain} measurements "
                "(early_stopping_patience)"
            )
        return stops

    def _step(self, name: str, batch: torch.Tensor, *, logs: bool) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the loss and the metrics, without the codes, which may be gigabytes for a dense SAE."""
        trainer = self.state.trainers[name]
        # signed SAEs centre themselves, under SAELens's own runner too
        if trainer.n_training_steps == 0 and not isinstance(trainer.sae, SignedTrainingSAE):
            initialize_b_dec(trainer.sae, trainer.activation_scaler(batch), self.cfg.b_dec_init_method)
        trainer.maybe_reset_sparsity()
        output = trainer.step(batch)
        if name in self.state.controllers:
            self.state.controllers[name].update(output)
        trainer.n_training_steps += 1
        # a copy: the next compiled step overwrites a loss in its graph
        return output.loss.detach().clone(), step_metrics(trainer, output) if logs else {}

    def log_last_step(self) -> None:
        """Measure the saved SAEs on held-out text and log the last step, without it if a signal raises Interrupted."""
        if self._last is None:  # resumed after the last step
            return
        held_out: dict[str, Reconstruction] = {}
        try:
            if self.cfg.measures:
                with passes_bar(self.console, "measuring on what is held out") as show:
                    n_passes, passes = self.held_out.n_passes if self.held_out else 0, count(1)

                    def on_pass() -> None:
                        self.raise_if_asked()
                        show(next(passes), n_passes)

                    held_out = self._measure_held_out(on_pass)
        finally:
            metrics, speed = self._last
            self._log(metrics, held_out, self.cfg.total_training_steps, speed)
        self.raise_if_asked()

    def _log(self, metrics: Metrics, held_out: Mapping[str, Reconstruction], step: int, speed: float) -> None:
        for name, row in metrics.items():
            on_held_out = held_out_metrics(held_out[name]) if name in held_out else {}
            self.loggers[name].log(row | on_held_out | {"tokens_per_second": speed}, step)

    def _measure_held_out(self, on_pass: Callable[[], None]) -> dict[str, Reconstruction]:
        """
        Measure on the first rank; return nothing if a signal cuts the measurement.

        If it fails, all ranks stop, and save progress unless the SAEs are saved already.
        """
        failed: Exception | None = None
        results: dict[str, Reconstruction] = {}
        try:
            if self.held_out is not None:
                with self.batches.paused():  # a prefetching thread runs the same model
                    results = self.held_out.measure(self.state.trainers, on_pass)
        except Interrupted:
            pass  # the run stops before the next step
        except Exception as error:
            clear_frames(error.__traceback__)  # its frames may hold GPU memory that saving needs
            failed = error
            if isinstance(error, ConfigError):
                failed = ConfigError(f"held out: {error} Or go on without measuring it, with perf_log_freq=0.")
        if any_rank(failed is not None):
            if self._last is None:
                self.checkpoints.save_and_say(self.batches.position())
            raise failed or OtherRankError("measuring Loss Recovered failed on rank 0; see its output for the reason.")
        return results

    def _finish(self) -> None:
        """Bring the SAEs into their final, saved form."""
        set_thresholds(
            self.state.trainers, self.batches, n_tokens=min(self.cfg.threshold_tokens, self.cfg.training_tokens)
        )
        for name, trainer in self.state.trainers.items():
            fold_scale(trainer)
            trainer.set_final_sae_metadata()
            metadata = trainer.sae.cfg.metadata
            steps, window = trainer.n_training_steps, self.cfg.dead_feature_window
            never = trainer.n_forward_passes_since_fired >= steps
            metadata.dead_latents = int((trainer.dead_neurons if steps > window else never).sum())
            metadata.dead_latents_tokens = min(steps, window) * self.cfg.train_batch_size_tokens
            metadata.training_tokens = steps * self.cfg.train_batch_size_tokens  # fewer if stopped early
            if name in self.state.controllers:  # the config has the initial coefficient
                metadata.sparsity_coefficient = self.state.controllers[name].scheduler.value
                metadata.target_l0 = self.cfg.target_l0[name]
