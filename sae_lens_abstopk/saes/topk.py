"""SAELens's TopK and BatchTopK, trained on the sparse kernels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from sae_lens import JumpReLUSAEConfig, SAEConfig, TopKSAEConfig
from sae_lens.saes.batchtopk_sae import BatchTopK
from sae_lens.saes.topk_sae import TopK
from torch import Tensor
from typing_extensions import override

from sae_lens_abstopk.saes.batch_selection import BatchSelectionConfig, BatchSelectionSAE
from sae_lens_abstopk.saes.sparse_training import SparseTrainingSAE, SparseTrainingSAEConfig
from sae_lens_abstopk.saes.traits import Traits
from sae_lens_abstopk.sparse import EncoderWeights, SparseCodes, select_per_token
from sae_lens_abstopk.system.ranks import least, n_ranks


@dataclass(kw_only=True)
class SparseTopKTrainingSAEConfig(SparseTrainingSAEConfig):
    """Config for training a TopK SAE on the sparse kernels, saved as SAELens's own ``topk``."""

    traits: ClassVar[Traits] = Traits(k_per="token")

    @override
    @classmethod
    def architecture(cls) -> str:
        return "sparse_topk"

    @override
    def get_inference_config_class(self) -> type[SAEConfig]:
        return TopKSAEConfig


class SparseTopKTrainingSAE(SparseTrainingSAE):
    """Training SAE whose code keeps the k largest positive latents per token."""

    cfg: SparseTopKTrainingSAEConfig  # type: ignore[assignment]

    @override
    def get_activation_fn(self) -> Callable[[Tensor], Tensor]:
        return TopK(self.cfg.k)

    @override
    def select(self, encoder: EncoderWeights, centred_BD: Float[Tensor, "B D"], multiple: int = 1) -> SparseCodes:
        return select_per_token(encoder, centred_BD, min(self.cfg.k * multiple, self.cfg.d_sae))


@dataclass(kw_only=True)
class SparseBatchTopKTrainingSAEConfig(BatchSelectionConfig):
    """Config for training a BatchTopK SAE on the sparse kernels, saved as SAELens's own ``jumprelu``."""

    traits: ClassVar[Traits] = Traits(k_per="batch")

    @override
    @classmethod
    def architecture(cls) -> str:
        return "sparse_batchtopk"

    @override
    def get_inference_config_class(self) -> type[SAEConfig]:
        return JumpReLUSAEConfig


class SparseBatchTopKTrainingSAE(BatchSelectionSAE):
    """Training SAE that keeps the k * B largest positive latents; its threshold starts at 0, as SAELens's."""

    cfg: SparseBatchTopKTrainingSAEConfig  # type: ignore[assignment]

    @override
    def get_activation_fn(self) -> Callable[[Tensor], Tensor]:
        return BatchTopK(self.cfg.k)

    @override
    @torch.no_grad()
    def update_topk_threshold(self, acts_topk: Float[Tensor, "..."]) -> None:
        """Move the threshold towards the smallest positive code over all ranks."""
        if n_ranks() > 1:
            smallest = least(torch.cat([acts_topk[acts_topk > 0], acts_topk.new_tensor([torch.inf])]).min())
            acts_topk = smallest.masked_fill(smallest.isinf(), 0)[None]
        super().update_topk_threshold(acts_topk)
