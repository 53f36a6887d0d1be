"""Activation statistics of several trainers on one stream: estimated once for all, folded into the weights at the end."""

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
    """
    Estimate what is due, as SAELens does, on batches that all SAEs share; what a checkpoint brought along is kept.

    One batch is held at a time. SAEs of one kind of normalisation have one result between them.
    """
    due = [
        trainer
        for trainer in trainers
        if trainer.sae.cfg.normalize_activations in ESTIMATED
        and trainer.activation_scaler.scaling_factor is None
        and trainer.activation_scaler.whitening is None
    ]
    if not due:
        return
    d_in = due[0].sae.cfg.d_in
    scaled, whitened = (
        [trainer.activation_scaler for trainer in due if trainer.sae.cfg.normalize_activations == kind]
        for kind in ESTIMATED
    )
    # of all ranks: each then estimates the same
    shared = (gathered(batch) for batch in islice(batches, n_batches))
    norms = _MeanNorm()
    if scaled:
        shared = norms.of_passing(shared)
    if whitened:
        whitened[0].estimate_whitening(d_in=d_in, data_provider=shared, n_batches_for_norm_estimate=n_batches)
    else:
        for _ in shared:
            pass
    for scaler in scaled:
        scaler.scaling_factor = d_in**0.5 / norms.mean
    for scaler in whitened[1:]:
        scaler.whitening = whitened[0].whitening


class _MeanNorm:
    """
    The mean norm that SAELens's ``estimate_scaling_factor`` divides by, to the bit.

    That one takes batches in a loop of its own, as ``estimate_whitening`` does, so the two could not share a pass.
    """

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0

    def of_passing(self, batches: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
        """The batches [n, d_in] themselves, looked at as they pass."""
        for batch in batches:
            norms = batch.norm(dim=-1)
            self._total += norms.float().sum().item()
            self._count += norms.numel()
            yield batch

    @property
    def mean(self) -> float:
        return self._total / self._count


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
