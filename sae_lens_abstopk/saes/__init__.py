"""The architectures of this package, registered with SAELens on import."""

from sae_lens import TopKSAE, TopKSAEConfig, register_sae_class, register_sae_training_class

from sae_lens_abstopk.saes import abstopk, batch_abstopk, matryoshka, topk
from sae_lens_abstopk.saes.signed_jumprelu import SignedJumpReLUSAE, SignedJumpReLUSAEConfig

for sae_class, config in (
    (abstopk.AbsTopKTrainingSAE, abstopk.AbsTopKTrainingSAEConfig),
    (batch_abstopk.BatchAbsTopKTrainingSAE, batch_abstopk.BatchAbsTopKTrainingSAEConfig),
    (matryoshka.MatryoshkaBatchAbsTopKTrainingSAE, matryoshka.MatryoshkaBatchAbsTopKTrainingSAEConfig),
    (topk.SparseTopKTrainingSAE, topk.SparseTopKTrainingSAEConfig),
    (topk.SparseBatchTopKTrainingSAE, topk.SparseBatchTopKTrainingSAEConfig),
):
    register_sae_training_class(config.architecture(), sae_class, config)
register_sae_class("signed_jumprelu", SignedJumpReLUSAE, SignedJumpReLUSAEConfig)
# so that SAE loads checkpoints too, as with SAELens's own abstopk and topk
register_sae_class("sparse_abstopk", abstopk.TrainedAbsTopKSAE, abstopk.TrainedAbsTopKSAEConfig)
register_sae_class("sparse_topk", TopKSAE, TopKSAEConfig)
