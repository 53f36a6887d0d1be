"""Training one or several SAEs on one stream of activations, with SAELens's runner, store and trainer."""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import wandb
from rich.console import Console
from sae_lens import LanguageModelSAETrainingRunner, SAETrainer, TrainingSAE
from sae_lens.registry import get_sae_training_class
from sae_lens.saes.sae import TrainingSAEConfig, TrainStepOutput
from sae_lens.training.prefetch import PrefetchingIterator
from typing_extensions import override

from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.evaluation.loss_recovered import LossRecovered
from sae_lens_abstopk.evaluation.model_passes import ModelPasses
from sae_lens_abstopk.evaluation.reconstruction import ScaledCodec, evaluate_reconstruction
from sae_lens_abstopk.evaluation.token_filter import TokenFilter
from sae_lens_abstopk.saes.signed_training import SignedTrainingSAE, initialize_b_dec
from sae_lens_abstopk.training.activation_scales import estimate_scales, fold_scale
from sae_lens_abstopk.training.activations import (
    FilteredActivationsStore,
    NonFiniteActivationsError,
    saelens_notes_off,
    token_batches,
)
from sae_lens_abstopk.training.config import TrainingConfig
from sae_lens_abstopk.training.config_file import dump_config
from sae_lens_abstopk.training.interruption import stop_on_signals
from sae_lens_abstopk.training.language_model import check_hook, load_language_model
from sae_lens_abstopk.training.loggers import ConsoleLogger, CsvLogger, Loggers, MetricLogger
from sae_lens_abstopk.training.metrics import step_metrics
from sae_lens_abstopk.training.progress import TrainingProgress
from sae_lens_abstopk.training.target_l0 import L0Controller
from sae_lens_abstopk.training.text import load_text
from sae_lens_abstopk.training.tracking import open_trackers, start_wandb

CONFIG_FILENAME = "config.yaml"
METRICS_FILENAME = "metrics.csv"


@dataclass(frozen=True)
class TrainingResult:
    """What a run leaves behind."""

    folders: dict[str, Path]
    """Folder of each SAE: ``"sae"`` and the companions by name."""
    saes: dict[str, TrainingSAE[Any]]
    """The SAEs in their training form, scale folded into the weights."""


class TrainingRun(LanguageModelSAETrainingRunner):
    """
    SAELens's training runner, with several SAEs to a stream and numbers in a file.

    The model, the metadata, the final files and the checkpoints are SAELens's; each SAE has a ``SAETrainer`` of its
    own, which this class drives through the seams that SAELens keeps for outside coordinators.

    Args:
        cfg: A checked config; ``cfg.output_path`` names the run folder.
        console: Where progress is shown.

    Raises:
        ConfigError: before the model's weights are read, if the model, the hook, the text or the folder will not do.
    """

    cfg: TrainingConfig  # type: ignore[assignment]

    def __init__(self, cfg: TrainingConfig, *, console: Console | None = None) -> None:
        if cfg.output_path is None:
            raise ConfigError("output_path is not set; name the folder that the run is to be written to.")
        self.output = Path(cfg.output_path)
        _refuse_to_overwrite(self.output, cfg)
        cfg.logger.require_packages()
        check_hook(cfg)
        dataset = load_text(cfg, "train")
        self.console = console or Console()
        cfg.checkpoint_path = cfg.checkpoint_path or str(self.output / "checkpoints")
        sae = None if cfg.from_pretrained_path else new_sae(cfg.sae, cfg.seed)
        with saelens_notes_off():
            model = load_language_model(cfg)
            super().__init__(cfg, override_dataset=dataset, override_model=model, override_sae=sae)
            store = FilteredActivationsStore.for_training(self.model, cfg, dataset)
        self.activations_store = self.store = store
        self.max_norm = store.max_norm
        self.saes: dict[str, TrainingSAE[Any]] = {"sae": self.sae}
        for name, sae_cfg in cfg.companions.items():
            self.saes[name] = new_sae(sae_cfg, cfg.seed).to(cfg.device)
        torch.manual_seed(cfg.seed)
        measures_loss = cfg.perf_log_freq and cfg.held_out_every is not None
        self.held_out = token_batches(self.model, cfg, cfg.perf_tokens, part="held_out") if measures_loss else []

    @override
    def run(self) -> TrainingSAE[Any]:
        """Train, write the run folder, and return the first SAE."""
        self._set_sae_metadata()
        self.output.mkdir(parents=True, exist_ok=True)
        (self.output / CONFIG_FILENAME).write_text(dump_config(self.cfg), encoding="utf-8")
        if self.cfg.logger.log_to_wandb:
            start_wandb(self.cfg.logger, self.cfg.to_dict())
        self.trainers = {name: self._trainer(name, sae) for name, sae in self.saes.items()}
        if self.cfg.resume_from_checkpoint is not None:
            self._resume(Path(self.cfg.resume_from_checkpoint))
        loggers = {name: self._loggers(name) for name in self.saes}
        self.batches: Iterator[torch.Tensor] = self.activations_store
        if self.cfg.prefetch_llm_batches:
            self.batches = PrefetchingIterator(self.activations_store, int(self.cfg.prefetch_llm_batches))
        try:
            try:
                with stop_on_signals():
                    self._fit(loggers)
            except (KeyboardInterrupt, NonFiniteActivationsError):
                self.console.print(f"stopped; progress is in [bold]{self._save_checkpoint()}[/]")
                raise
            for name, sae in self.saes.items():
                self.save_final_sae(sae, str(self.folder(name)), self.trainers[name].log_feature_sparsity)
        finally:
            if isinstance(self.batches, PrefetchingIterator):
                self.batches.close()
            self.store.close()
            for logger in loggers.values():
                logger.close()
            if self.cfg.logger.log_to_wandb:
                wandb.finish()
        return self.sae

    def folder(self, name: str) -> Path:
        """Where the SAE ``name`` is written: the run folder, or for a companion a folder inside it."""
        return self.output if name == "sae" else self.output / name

    def _trainer(self, name: str, sae: TrainingSAE[Any]) -> SAETrainer[Any, Any]:
        trainer = SAETrainer(
            cfg=self.cfg.to_sae_trainer_config(),
            sae=sae,
            data_provider=self.activations_store,
            save_checkpoint_fn=self.save_checkpoint if name == "sae" else None,
        )
        if self.cfg.compile_sae:
            compiled = torch.compile(sae.training_forward_pass, mode=self.cfg.sae_compilation_mode)
            sae.training_forward_pass = compiled  # type: ignore[method-assign]
        return use_fused_adam(trainer)

    def _loggers(self, name: str) -> Loggers:
        loggers: list[MetricLogger] = [CsvLogger(self.folder(name) / METRICS_FILENAME)]
        if not self.console.is_terminal:
            loggers.append(ConsoleLogger(self.console, self.label(name)))
        loggers += open_trackers(
            self.cfg.logger,
            self.label(name),
            self.folder(name),
            several=len(self.saes) > 1,
            config=self.cfg.to_dict(),
            warn=self._warn,
        )
        return Loggers(loggers, self._warn)

    def _warn(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def label(self, name: str) -> str:
        """What the SAE ``name`` is called on screen."""
        return self.saes[name].cfg.metadata.label or name

    def _fit(self, loggers: Mapping[str, Loggers]) -> None:
        cfg, trainers = self.cfg, self.trainers
        first = trainers["sae"]
        controllers = {
            name: L0Controller(trainers[name], target, cfg.total_training_steps)
            for name, target in cfg.target_l0.items()
        }
        estimate_scales(trainers.values(), self.batches, n_batches=cfg.n_batches_for_norm_estimate)
        with TrainingProgress(self.console, cfg.total_training_steps * cfg.train_batch_size_tokens) as progress:
            progress.advance_to(first.n_training_samples)
            while first.n_training_steps < cfg.total_training_steps:
                batch = next(self.batches)
                outputs: dict[str, TrainStepOutput] = {}
                for name, trainer in trainers.items():
                    if trainer.n_training_steps == 0:
                        self._center(trainer, batch)
                    trainer.maybe_reset_sparsity()
                    outputs[name] = trainer.step(batch)
                    if name in controllers:
                        controllers[name].update(outputs[name])
                    trainer.n_training_steps += 1
                step = first.n_training_steps
                last = step == cfg.total_training_steps
                losses = self._loss_recovered() if self._measures_loss(step, last) else {}
                if losses or last or step == 1 or step % cfg.logger.wandb_log_frequency == 0:
                    for name, trainer in trainers.items():
                        metrics = step_metrics(trainer, outputs[name], losses.get(name))
                        metrics["tokens_per_second"] = progress.tokens_per_second
                        loggers[name].log(metrics, step)
                        progress.show(self.label(name), metrics, d_sae=trainer.sae.cfg.d_sae)
                progress.advance_to(first.n_training_samples)
                if cfg.checkpoint_freq and step % cfg.checkpoint_freq == 0 and not last:
                    self._save_checkpoint()
        for trainer in trainers.values():
            fold_scale(trainer)
            trainer.set_final_sae_metadata()

    def _center(self, trainer: SAETrainer[Any, Any], batch: torch.Tensor) -> None:
        # the signed SAEs do this themselves, so that they do it under SAELens's own runner too
        if not isinstance(trainer.sae, SignedTrainingSAE):
            scaled = trainer.activation_scaler(batch.to(trainer.sae.device))
            initialize_b_dec(trainer.sae, scaled, self.cfg.b_dec_init_method)

    def _measures_loss(self, step: int, last: bool) -> bool:
        return bool(self.held_out) and (last or step % self.cfg.perf_log_freq == 0)

    def _loss_recovered(self) -> dict[str, LossRecovered]:
        codecs = {}
        for name, trainer in self.trainers.items():
            trainer.sae.eval()
            codecs[name] = ScaledCodec(trainer.sae, trainer.activation_scaler)
        # a prefetching thread runs the same model
        with self.batches.paused() if isinstance(self.batches, PrefetchingIterator) else nullcontext():
            results = evaluate_reconstruction(
                ModelPasses(self.model, self.cfg.hook_name, autocast=self.cfg.autocast_lm),
                codecs,
                self.held_out,
                token_filter=TokenFilter.of_sae(self.sae, getattr(self.model, "tokenizer", None)),
            )
        for trainer in self.trainers.values():
            trainer.sae.train()
        return {name: result.loss for name, result in results.items() if result.loss is not None}

    @override
    def _set_sae_metadata(self) -> None:
        super()._set_sae_metadata()
        common = self.sae.cfg.metadata
        common.max_activation_norm = self.max_norm
        common.dataset_name = self.cfg.dataset_name
        common.split = self.cfg.split
        common.held_out_every = self.cfg.held_out_every
        common.training_tokens = self.cfg.total_training_steps * self.cfg.train_batch_size_tokens
        own = ("training_architecture", "training_architecture_details", "label")
        for name, sae in self.saes.items():
            for key, value in common.items():
                if key not in own:
                    sae.cfg.metadata[key] = value
            sae.cfg.metadata.label = name if name != "sae" else sae.cfg.architecture().removeprefix("sparse_")

    def _checkpoint_folder(self) -> Path:
        assert self.cfg.checkpoint_path is not None
        return Path(self.cfg.checkpoint_path) / str(self.trainers["sae"].n_training_samples)

    def _save_checkpoint(self) -> Path:
        folder = self._checkpoint_folder()
        for name, trainer in self.trainers.items():
            if name == "sae":
                trainer.save_checkpoint(folder.name, base_path=folder.parent)
            else:
                trainer.save_checkpoint(name, base_path=folder)
        return folder

    def _resume(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ConfigError(f"resume_from_checkpoint={str(folder)!r}: no such folder.")
        for name, trainer in self.trainers.items():
            part = folder if name == "sae" else folder / name
            trainer.load_trainer_state(part)
            trainer.sae.load_weights_from_checkpoint(part)
        self.activations_store.load_from_checkpoint(folder)


def train(cfg: TrainingConfig, *, console: Console | None = None) -> TrainingResult:
    """Train the SAEs of ``cfg`` and write the run folder ``cfg.output_path``."""
    run = TrainingRun(cfg, console=console)
    run.run()
    return TrainingResult(folders={name: run.folder(name) for name in run.saes}, saes=run.saes)


def new_sae(cfg: TrainingSAEConfig, seed: int) -> TrainingSAE[Any]:
    """A freshly initialised SAE; one seed gives the same weights to every architecture of the same shape."""
    torch.manual_seed(seed)
    return get_sae_training_class(cfg.architecture())[0](cfg)


def use_fused_adam(trainer: SAETrainer[Any, Any]) -> SAETrainer[Any, Any]:
    """Let Adam update all parameters in one pass over memory instead of about ten; the numbers are the same."""
    for group in trainer.optimizer.param_groups:
        group.update(fused=True, foreach=False)
    return trainer


def _refuse_to_overwrite(output: Path, cfg: TrainingConfig) -> None:
    if output.exists() and not output.is_dir():
        raise ConfigError(f"output_path={str(output)!r} is a file; name a folder.")
    taken = [name for name in ("sae_weights.safetensors", METRICS_FILENAME) if (output / name).exists()]
    if taken and cfg.resume_from_checkpoint is None:
        raise ConfigError(
            f"output_path={str(output)!r} already holds a run ({', '.join(taken)}); choose another folder, move that "
            "one away, or go on with it by resume_from_checkpoint."
        )
