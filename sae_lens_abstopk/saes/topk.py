"""SAELens's TopK and BatchTopK on the sparse kernels: the same SAEs, trained at the speed of the signed ones."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, JumpReLUSAEConfig, SAEConfig, TopKSAEConfig
from sae_lens.saes.batchtopk_sae import BatchTopK
from sae_lens.saes.sae import TrainStepInput, TrainStepOutput
from sae_lens.saes.topk_sae import TopK
from typing_extensions import override

from sae_lens_abstopk.saes.sparse_training import SparseTrainingSAE, SparseTrainingSAEConfig, check_mean_k
from sae_lens_abstopk.sparse import EncoderWeights, SparseCodes, select_over_batch, select_per_token


@dataclass(kw_only=True)
class SparseTopKTrainingSAEConfig(SparseTrainingSAEConfig):
    """Config for training a TopK SAE on the sparse kernels, saved as SAELens's own ``topk``."""

    @override
    @classmethod
    def architecture(cls) -> str:
        return "sparse_topk"

    @override
    def get_inference_config_class(self) -> type[SAEConfig]:
        return TopKSAEConfig


class SparseTopKTrainingSAE(SparseTrainingSAE):
    """Training SAE whose code keeps the k largest latents a token, where they are positive."""

    cfg: SparseTopKTrainingSAEConfig  # type: ignore[assignment]

    @override
    def get_activation_fn(self) -> Callable[[torch.Tensor], torch.Tensor]:
        return TopK(self.cfg.k)

    @override
    def select(self, encoder: EncoderWeights, centred_BD: torch.Tensor) -> SparseCodes:
        return select_per_token(encoder, centred_BD, self.cfg.k)


@dataclass(kw_only=True)
class SparseBatchTopKTrainingSAEConfig(SparseTrainingSAEConfig, BatchTopKTrainingSAEConfig):
    """
    Config for training a BatchTopK SAE on the sparse kernels, saved as SAELens's own ``jumprelu``.

    Args:
        k: Mean number of active latents a token; need not be an integer.
    """

    k: float = 100  # type: ignore[assignment]

    @override
    @classmethod
    def architecture(cls) -> str:
        return "sparse_batchtopk"

    @override
    def get_inference_config_class(self) -> type[SAEConfig]:
        return JumpReLUSAEConfig

    @override
    def _check_k(self) -> None:
        check_mean_k(self.k, self.d_sae, self.topk_threshold_lr)


class SparseBatchTopKTrainingSAE(SparseTrainingSAE, BatchTopKTrainingSAE):
    """Training SAE that keeps the k * B largest positive latents of a batch of B tokens."""

    cfg: SparseBatchTopKTrainingSAEConfig  # type: ignore[assignment]

    @override
    def get_activation_fn(self) -> Callable[[torch.Tensor], torch.Tensor]:
        return BatchTopK(self.cfg.k)

    @override
    def select(self, encoder: EncoderWeights, centred_BD: torch.Tensor) -> SparseCodes:
        return select_over_batch(encoder, centred_BD, int(self.cfg.k * len(centred_BD)))

    @override
    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        output = super().training_forward_pass(step_input)
        if output.feature_acts.is_sparse:  # SAELens's dense step has moved the threshold already
            self.update_topk_threshold(output.feature_acts._values())
        output.metrics["topk_threshold"] = self.topk_threshold
        return output
