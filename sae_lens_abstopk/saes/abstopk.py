"""Per-token AbsTopK: each token keeps the k pre-activations of largest magnitude, sign included."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from sae_lens import AbsTopKSAEConfig, SAEConfig
from sae_lens import AbsTopKTrainingSAEConfig as SAELensAbsTopKTrainingSAEConfig
from sae_lens.saes.abstopk_sae import AbsTopK
from typing_extensions import override

from sae_lens_abstopk.saes.signed_training import SignedTrainingSAE, SignedTrainingSAEConfig
from sae_lens_abstopk.sparse import EncoderWeights, SparseCodes, select_per_token


@dataclass(kw_only=True)
class AbsTopKTrainingSAEConfig(SignedTrainingSAEConfig, SAELensAbsTopKTrainingSAEConfig):
    """
    Config for training a per-token AbsTopK SAE (arXiv 2510.00404), saved as SAELens's own ``abstopk``.

    SAELens has registered the name ``abstopk`` itself, so this training config goes by ``sparse_abstopk``; what it
    saves for inference is the stock format and loads without this package.
    """

    @override
    @classmethod
    def architecture(cls) -> str:
        return "sparse_abstopk"

    @override
    def get_inference_config_class(self) -> type[SAEConfig]:
        return AbsTopKSAEConfig


class AbsTopKTrainingSAE(SignedTrainingSAE):
    """Training SAE whose code keeps exactly k signed latents per token."""

    cfg: AbsTopKTrainingSAEConfig  # type: ignore[assignment]

    @override
    def get_activation_fn(self) -> Callable[[torch.Tensor], torch.Tensor]:
        return AbsTopK(self.cfg.k)

    @override
    def select(self, encoder: EncoderWeights, centred_BD: torch.Tensor) -> SparseCodes:
        return select_per_token(encoder, centred_BD, self.cfg.k)
