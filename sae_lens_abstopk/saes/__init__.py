"""The architectures of this package, registered with SAELens on import."""

from sae_lens import TopKSAE, TopKSAEConfig, register_sae_class, register_sae_training_class

from sae_lens_abstopk.saes.abstopk import (
    AbsTopKTrainingSAE,
    AbsTopKTrainingSAEConfig,
    TrainedAbsTopKSAE,
    TrainedAbsTopKSAEConfig,
)
from sae_lens_abstopk.saes.batch_abstopk import BatchAbsTopKTrainingSAE, BatchAbsTopKTrainingSAEConfig
from sae_lens_abstopk.saes.matryoshka import MatryoshkaBatchAbsTopKTrainingSAE, MatryoshkaBatchAbsTopKTrainingSAEConfig
from sae_lens_abstopk.saes.signed_jumprelu import SignedJumpReLUSAE, SignedJumpReLUSAEConfig
from sae_lens_abstopk.saes.topk import (
    SparseBatchTopKTrainingSAE,
    SparseBatchTopKTrainingSAEConfig,
    SparseTopKTrainingSAE,
    SparseTopKTrainingSAEConfig,
)

register_sae_training_class("sparse_abstopk", AbsTopKTrainingSAE, AbsTopKTrainingSAEConfig)
register_sae_training_class("sparse_topk", SparseTopKTrainingSAE, SparseTopKTrainingSAEConfig)
register_sae_training_class("sparse_batchtopk", SparseBatchTopKTrainingSAE, SparseBatchTopKTrainingSAEConfig)
register_sae_training_class("batch_abstopk", BatchAbsTopKTrainingSAE, BatchAbsTopKTrainingSAEConfig)
register_sae_training_class(
    "matryoshka_batch_abstopk", MatryoshkaBatchAbsTopKTrainingSAE, MatryoshkaBatchAbsTopKTrainingSAEConfig
)
register_sae_class("signed_jumprelu", SignedJumpReLUSAE, SignedJumpReLUSAEConfig)
# so that SAE loads checkpoints too, as with SAELens's own abstopk and topk
register_sae_class("sparse_abstopk", TrainedAbsTopKSAE, TrainedAbsTopKSAEConfig)
register_sae_class("sparse_topk", TopKSAE, TopKSAEConfig)

__all__ = [
    "AbsTopKTrainingSAE",
    "AbsTopKTrainingSAEConfig",
    "BatchAbsTopKTrainingSAE",
    "BatchAbsTopKTrainingSAEConfig",
    "MatryoshkaBatchAbsTopKTrainingSAE",
    "MatryoshkaBatchAbsTopKTrainingSAEConfig",
    "SignedJumpReLUSAE",
    "SignedJumpReLUSAEConfig",
    "SparseBatchTopKTrainingSAE",
    "SparseBatchTopKTrainingSAEConfig",
    "SparseTopKTrainingSAE",
    "SparseTopKTrainingSAEConfig",
]
