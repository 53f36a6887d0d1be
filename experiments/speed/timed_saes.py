"""The timed SAEs by name, and their trainers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import sae_lens
import torch
from sae_lens import (
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    SAETrainer,
    TopKTrainingSAE,
    TopKTrainingSAEConfig,
    TrainingSAE,
)
from sae_lens.config import SAETrainerConfig

from sae_lens_abstopk import (
    AbsTopKTrainingSAE,
    AbsTopKTrainingSAEConfig,
    BatchAbsTopKTrainingSAE,
    BatchAbsTopKTrainingSAEConfig,
)
from sae_lens_abstopk.saes.topk import (
    SparseBatchTopKTrainingSAE,
    SparseBatchTopKTrainingSAEConfig,
    SparseTopKTrainingSAE,
    SparseTopKTrainingSAEConfig,
)
from sae_lens_abstopk.training.trainers import use_fused_adam

SAELENS, OURS = "sae_lens abstopk", "abstopk"
AUTOCAST = "sae_lens abstopk, bfloat16 autocast"
SIGNED_EXPANSION_FACTOR = 0.25  # as in the presets


class Size(NamedTuple):
    """Sizes D, F, K and B of the tables."""

    d_in: int
    d_sae: int
    k: int
    tokens: int
    """Tokens of a batch."""


Made = Callable[[dict[str, Any]], TrainingSAE[Any]]
"""Function that makes an SAE from ``d_in``, ``d_sae`` and ``k``."""
AT_EVERY_SIZE: dict[str, Made] = {
    SAELENS: lambda size: sae_lens.AbsTopKTrainingSAE(sae_lens.AbsTopKTrainingSAEConfig(**size)),
    "sae_lens topk": lambda size: TopKTrainingSAE(TopKTrainingSAEConfig(**size)),
    "sparse_topk": lambda size: SparseTopKTrainingSAE(SparseTopKTrainingSAEConfig(**size)),
    OURS: lambda size: AbsTopKTrainingSAE(AbsTopKTrainingSAEConfig(**size)),
    "batch_abstopk": lambda size: BatchAbsTopKTrainingSAE(BatchAbsTopKTrainingSAEConfig(**size)),
}
AT_THE_FIRST_SIZE: dict[str, Made] = {
    AUTOCAST: AT_EVERY_SIZE[SAELENS],
    "sae_lens topk, sparse activations": lambda size: TopKTrainingSAE(
        # its backward pass raises with the default, rescale_acts_by_decoder_norm=True
        TopKTrainingSAEConfig(**size, use_sparse_activations=True, rescale_acts_by_decoder_norm=False)
    ),
    "sae_lens batchtopk": lambda size: BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**size)),
    "abstopk, selection in float32": lambda size: AbsTopKTrainingSAE(
        AbsTopKTrainingSAEConfig(**size, selection_dtype="float32")
    ),
    "batch_abstopk, D / 4 signed": lambda size: BatchAbsTopKTrainingSAE(
        BatchAbsTopKTrainingSAEConfig(**size, signed_share=SIGNED_EXPANSION_FACTOR * size["d_in"] / size["d_sae"])
    ),
    "sparse_batchtopk": lambda size: SparseBatchTopKTrainingSAE(SparseBatchTopKTrainingSAEConfig(**size)),
}


def make_trainer(name: str, size: Size) -> SAETrainer[Any, Any]:
    """Make a trainer of the SAE ``name``: SAELens's for SAELens's SAEs, ours (fused Adam) for ours."""
    torch.manual_seed(0)
    make = (AT_EVERY_SIZE | AT_THE_FIRST_SIZE)[name]
    cfg = SAETrainerConfig(
        total_training_samples=size.tokens,
        train_batch_size_samples=size.tokens,
        lr=1e-3,
        lr_end=1e-3,
        autocast=name == AUTOCAST,
    )
    sae = make({"d_in": size.d_in, "d_sae": size.d_sae, "k": size.k})
    trainer = SAETrainer(cfg=cfg, sae=sae, data_provider=iter(()))
    return trainer if name.startswith("sae_lens") else use_fused_adam(trainer)


def take_step(trainer: SAETrainer[Any, Any], batch: torch.Tensor, dead: float = 0.0) -> None:
    """Take a step with a share ``dead`` of the latents counted as dead."""
    n_dead = round(dead * trainer.sae.cfg.d_sae)
    trainer.n_forward_passes_since_fired[:n_dead] = trainer.cfg.dead_feature_window + 1
    trainer.step(batch)
    trainer.n_training_steps += 1
