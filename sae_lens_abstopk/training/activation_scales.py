"""Activation statistics of several trainers on one stream: estimated once for all, folded into the weights at the end."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from sae_lens import SAETrainer

from sae_lens_abstopk.ranks import gathered

ESTIMATED = ("expected_average_only_in", "covariance_whitening")
"""Values of ``normalize_activations`` that need statistics of the activations."""


def estimate_scales(
    trainers: Iterable[SAETrainer[Any, Any]], batches: Iterator[torch.Tensor], *, n_batches: int
) -> None:
    """Estimate what is due on batches that all SAEs share; what a checkpoint brought along is kept."""
    due = [
        trainer
        for trainer in trainers
        if trainer.sae.cfg.normalize_activations in ESTIMATED
        and trainer.activation_scaler.scaling_factor is None
        and trainer.activation_scaler.whitening is None
    ]
    if not due:
        return
    shared = [next(batches) for _ in range(n_batches)]
    for trainer in due:
        scaler = trainer.activation_scaler
        whitens = trainer.sae.cfg.normalize_activations == "covariance_whitening"
        estimate = scaler.estimate_whitening if whitens else scaler.estimate_scaling_factor
        # of all ranks: each then estimates the same
        of_all = (gathered(batch) for batch in shared)
        estimate(d_in=trainer.sae.cfg.d_in, data_provider=of_all, n_batches_for_norm_estimate=n_batches)


def fold_scale(trainer: SAETrainer[Any, Any]) -> None:
    """Move the statistics of a trainer into the weights of its SAE."""
    scaler = trainer.activation_scaler
    if scaler.scaling_factor is not None:
        trainer.sae.fold_activation_norm_scaling_factor(scaler.scaling_factor)
        scaler.scaling_factor = None
    if scaler.whitening is not None:
        whitening = scaler.whitening
        trainer.sae.fold_activation_whitening(whitening.mean, whitening.matrix, whitening.inverse_matrix)
        scaler.whitening = None
