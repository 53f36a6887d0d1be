"""New SAEs and their trainers, in one process or on several ranks, and the statistics that scale activations."""

import inspect
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAETrainer, TrainingSAE
from sae_lens.registry import get_sae_training_class
from sae_lens.saes.sae import TrainingSAEConfig, TrainStepInput, TrainStepOutput
from torch.nn.parallel import DistributedDataParallel
from typing_extensions import override

from sae_lens_abstopk.saes.loading import ESTIMATED
from sae_lens_abstopk.system.ranks import gathered, n_ranks, summed
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.warm_start import load_start

# torch renamed an option of DistributedDataParallel
_HAS_FORWARD_SYNC_BUFFERS = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters


def new_sae(cfg: TrainingSAEConfig, seed: int, *, weights_of: Path | None = None) -> TrainingSAE[Any]:
    """Make an SAE whose weights are those of ``seed``, or of a folder of :func:`.warm_starts`."""
    torch.manual_seed(seed)
    # a copy, because training changes the config when it folds a scale into the weights
    sae = get_sae_training_class(cfg.architecture())[0](deepcopy(cfg))
    if weights_of is not None:
        load_start(sae, weights_of)
    return sae


def new_trainer(cfg: TrainingConfig, name: str, sae: TrainingSAE[Any]) -> SAETrainer[Any, Any]:
    """Make the trainer of the SAE ``name`` of a run, at its own learning rate."""
    kind = SAETrainer if n_ranks() == 1 else RankTrainer
    of_run, multiple = cfg.to_sae_trainer_config(), cfg.lr_multiples.get(name, 1)
    own = replace(of_run, lr=of_run.lr * multiple, lr_end=of_run.lr_end and of_run.lr_end * multiple)
    trainer = kind(cfg=own, sae=sae, data_provider=iter(()))  # the loop gives it each batch
    if cfg.compile_sae:
        compiled = torch.compile(sae.training_forward_pass, mode=cfg.sae_compilation_mode)
        sae.training_forward_pass = compiled  # type: ignore[method-assign]
    return use_fused_adam(trainer)


def use_fused_adam(trainer: SAETrainer[Any, Any]) -> SAETrainer[Any, Any]:
    """Let Adam update all parameters in one pass over memory instead of about ten, with equal results."""
    for group in trainer.optimizer.param_groups:
        group.update(fused=True, foreach=False)
    return trainer


class RankTrainer(SAETrainer[Any, Any]):
    """
    SAELens's trainer on one of several ranks; gradients, firings and token counts cover all ranks.

    DistributedDataParallel starts all ranks at the weights of the first and averages their gradients. Every rank has
    the same number of tokens, so the mean is the gradient of the whole batch.
    """

    def __init__(self, cfg: Any, sae: TrainingSAE[Any], data_provider: Any) -> None:
        super().__init__(cfg=cfg, sae=sae, data_provider=data_provider)
        # ranks fill their buffers with the same values
        options: dict[str, Any] = {"forward_sync_buffers" if _HAS_FORWARD_SYNC_BUFFERS else "broadcast_buffers": False}
        shared = DistributedDataParallel(_Step(sae), gradient_as_bucket_view=True, **options)
        # a function: as a module attribute, the SAE would become a part of itself
        sae.training_forward_pass = lambda step_input: shared(step_input)  # type: ignore[method-assign]

    @override
    def step(self, batch: torch.Tensor) -> TrainStepOutput:
        output = super().step(batch)
        self.n_training_samples += (n_ranks() - 1) * len(batch)
        return output

    @override
    def _train_step(self, sae: Any, sae_in: torch.Tensor) -> TrainStepOutput:
        since_fired, scores = self.n_forward_passes_since_fired.clone(), self.act_freq_scores.clone()
        output = super()._train_step(sae, sae_in)
        with torch.no_grad():
            fired = output.feature_acts.bool().float().sum(0)
            fired = summed(fired.to_dense() if fired.is_sparse else fired)
            self.n_forward_passes_since_fired = (since_fired + 1).masked_fill(fired > 0, 0)
            self.act_freq_scores = scores + fired
        return output


class _Step(torch.nn.Module):
    """The training step of an SAE as the forward pass of a module."""

    def __init__(self, sae: TrainingSAE[Any]) -> None:
        super().__init__()
        self.sae = sae
        self._step = sae.training_forward_pass

    @override
    def forward(self, step_input: TrainStepInput) -> TrainStepOutput:
        return self._step(step_input)


def estimate_scales(
    trainers: Iterable[SAETrainer[Any, Any]], batches: Iterator[torch.Tensor], *, n_batches: int
) -> None:
    """Estimate missing statistics in one pass over batches [n, d_in] of all ranks, equal to SAELens's to the bit."""
    due = [
        trainer
        for trainer in trainers
        if trainer.sae.cfg.normalize_activations in ESTIMATED
        and trainer.activation_scaler.scaling_factor is None
        and trainer.activation_scaler.whitening is None
    ]
    if not due:
        return
    d_in, total, count = due[0].sae.cfg.d_in, 0.0, 0
    scaled, whitened = (
        [trainer.activation_scaler for trainer in due if trainer.sae.cfg.normalize_activations == kind]
        for kind in ESTIMATED
    )

    def measured() -> Iterator[torch.Tensor]:
        nonlocal total, count
        for batch in map(gathered, islice(batches, n_batches)):
            if scaled:
                norms = batch.norm(dim=-1)
                total += norms.float().sum().item()
                count += norms.numel()
            yield batch

    if whitened:
        whitened[0].estimate_whitening(d_in=d_in, data_provider=measured(), n_batches_for_norm_estimate=n_batches)
    else:
        for _ in measured():
            pass
    for scaler in scaled:
        scaler.scaling_factor = d_in**0.5 / (total / count)
    for scaler in whitened[1:]:
        scaler.whitening = whitened[0].whitening


def fold_scale(trainer: SAETrainer[Any, Any]) -> None:
    """Move the statistics of a trainer into the weights of its SAE."""
    scaler = trainer.activation_scaler
    if scaler.scaling_factor is not None:
        trainer.sae.fold_activation_norm_scaling_factor(scaler.scaling_factor)
    if (whitening := scaler.whitening) is not None:
        trainer.sae.fold_activation_whitening(whitening.mean, whitening.matrix, whitening.inverse_matrix)
    scaler.scaling_factor = scaler.whitening = None
