"""Per-token AbsTopK: each token keeps the k pre-activations of largest magnitude, sign included."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from jaxtyping import Float
from sae_lens import AbsTopKSAE, AbsTopKSAEConfig, SAEConfig
from sae_lens import AbsTopKTrainingSAEConfig as SAELensAbsTopKTrainingSAEConfig
from sae_lens.saes.abstopk_sae import AbsTopK
from torch import Tensor
from typing_extensions import override

from sae_lens_abstopk.saes.signed_training import SignedTrainingSAE, SignedTrainingSAEConfig
from sae_lens_abstopk.saes.traits import Traits
from sae_lens_abstopk.sparse import EncoderWeights, SparseCodes, select_per_token


@dataclass(kw_only=True)
class AbsTopKTrainingSAEConfig(SignedTrainingSAEConfig, SAELensAbsTopKTrainingSAEConfig):
    """
    Config for training a per-token AbsTopK SAE (arXiv 2510.00404), saved as SAELens's own ``abstopk``.

    SAELens uses the name ``abstopk`` itself, so in training it is ``sparse_abstopk``.
    """

    traits: ClassVar[Traits] = Traits(signed=True, k_per="token")

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
    def get_activation_fn(self) -> Callable[[Tensor], Tensor]:
        return AbsTopK(self.cfg.k)

    @override
    def select(self, encoder: EncoderWeights, centred_BD: Float[Tensor, "B D"], multiple: int = 1) -> SparseCodes:
        return select_per_token(encoder, centred_BD, min(self.cfg.k * multiple, self.cfg.d_sae))


@dataclass
class TrainedAbsTopKSAEConfig(AbsTopKSAEConfig):
    """Config that SAELens makes when it loads the files of a training SAE for inference."""

    @override
    @classmethod
    def architecture(cls) -> str:
        return AbsTopKTrainingSAEConfig.architecture()


class TrainedAbsTopKSAE(AbsTopKSAE):
    """SAELens's ``abstopk`` loaded from the files of a training SAE; its own config and files are stock ones."""

    def __init__(self, cfg: AbsTopKSAEConfig, use_error_term: bool = False) -> None:
        stock = AbsTopKSAEConfig(**{field.name: getattr(cfg, field.name) for field in fields(cfg)})
        super().__init__(stock, use_error_term)

    @override
    def process_state_dict_for_loading(self, state_dict: dict[str, Any]) -> None:
        super().process_state_dict_for_loading(state_dict)
        state_dict.pop("pole_counts", None)
