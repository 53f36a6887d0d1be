"""Set the thresholds of trained SAEs that select over a batch, so that they let pass k codes a token."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from sae_lens import BatchTopKTrainingSAE
from torch import Tensor

from sae_lens_abstopk.saes.threshold import ThresholdFitter
from sae_lens_abstopk.system.ranks import n_ranks
from sae_lens_abstopk.training.metrics import Trainers, codecs_of

# codes computed at a time: 64 MiB
ENTRIES = 2**24
# lets all codes pass; at 0, these SAEs select over the batch
LEAST = 1e-30


@torch.no_grad()
def set_thresholds(trainers: Trainers, batches: Iterator[Tensor], *, n_tokens: int) -> None:
    """
    Set thresholds so that the mean L0 is k on the next ``n_tokens`` of all ranks, or a few more.

    In training, a threshold follows the least code that each batch kept. That is an estimate: of two SAEs trained side
    by side, one lets pass more codes than the other, and has the lower error for it.
    """
    due = {name: trainer for name, trainer in trainers.items() if isinstance(trainer.sae, BatchTopKTrainingSAE)}
    if not due or not n_tokens:
        return
    saes = {name: cast(Any, trainer.sae) for name, trainer in due.items()}
    fitters = {name: ThresholdFitter(sae.cfg.k) for name, sae in saes.items()}
    for sae in saes.values():
        sae.topk_threshold.fill_(LEAST)
    n_read = 0
    with codecs_of(due) as codecs:
        while n_read < n_tokens:
            batch = next(batches)
            n_read += len(batch) * n_ranks()
            for name, codec in codecs.items():
                for x in batch.split(max(1, ENTRIES // saes[name].cfg.d_sae)):
                    fitters[name].update(codec.encode(x).abs())
    for name, sae in saes.items():
        sae.topk_threshold.fill_(fitters[name].over_ranks().result or LEAST)
        sae.cfg.metadata.threshold_tokens = n_read
