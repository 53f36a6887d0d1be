"""Activation statistics of several trainers: estimated once on a shared stream, folded into the weights at the end."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from sae_lens import SAETrainer

from sae_lens_abstopk.saes.measurable import ESTIMATED
from sae_lens_abstopk.system.ranks import gathered


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
