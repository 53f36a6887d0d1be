"""Base of SAEs that select over a batch: a mean k, and a threshold that follows the selection."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.sae import TrainStepInput, TrainStepOutput
from torch import Tensor
from typing_extensions import override

from sae_lens_abstopk.saes.sparse_training import SparseTrainingSAE, SparseTrainingSAEConfig
from sae_lens_abstopk.saes.traits import Traits
from sae_lens_abstopk.sparse import EncoderWeights, SparseCodes, row_norms, select_over_batch, select_over_ranks
from sae_lens_abstopk.system.errors import ConfigError, require_range
from sae_lens_abstopk.system.ranks import n_ranks


@dataclass(kw_only=True)
class BatchSelectionConfig(SparseTrainingSAEConfig, BatchTopKTrainingSAEConfig):
    """
    Options of the SAEs that select over a batch.

    Args:
        k: Mean number of active latents per token; need not be an integer.
        topk_threshold_lr: Share by which each batch moves the running threshold.
    """

    traits: ClassVar[Traits] = Traits(k_per="batch")
    k: float = 100  # type: ignore[assignment]
    topk_threshold_lr: float = 0.01

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        require_range("topk_threshold_lr", self.topk_threshold_lr, above=0, at_most=1)


class BatchSelectionSAE(SparseTrainingSAE, BatchTopKTrainingSAE):
    """Base class; keeps the ``int(k * B)`` highest entries of a batch of B tokens, over all ranks."""

    cfg: BatchSelectionConfig  # type: ignore[assignment]

    @override
    def encode(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... F"]:
        """Encode by batch selection in training, and token by token with the threshold in evaluation mode."""
        if self.training or self.topk_threshold == 0:
            return super().encode(x)
        hidden_pre = self.hook_sae_acts_pre(self.process_sae_in(x) @ self.W_enc + self.b_enc)
        if self.cfg.rescale_acts_by_decoder_norm:
            hidden_pre = hidden_pre * row_norms(self.W_dec)
        return self.hook_sae_acts_post(self.over_threshold(hidden_pre))

    @override
    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        # to(), half() and so on cast every buffer, and a half-precision threshold could not move by a small share
        threshold = self.topk_threshold
        super()._apply(fn, recurse)
        self.topk_threshold = threshold.to(self.topk_threshold.device, torch.float64)
        return self

    @override
    def process_state_dict_for_loading(self, state_dict: dict[str, Any]) -> None:
        super().process_state_dict_for_loading(state_dict)
        if "topk_threshold" in state_dict:
            state_dict["topk_threshold"] = state_dict["topk_threshold"].double()

    def over_threshold(self, hidden_pre: Float[Tensor, "... F"]) -> Float[Tensor, "... F"]:
        """Zero the pre-activations that are not above the running threshold."""
        return torch.where(hidden_pre <= self.topk_threshold, 0.0, hidden_pre)

    @override
    def select(self, encoder: EncoderWeights, centred_BD: Float[Tensor, "B D"], multiple: int = 1) -> SparseCodes:
        k = min(self.cfg.k * multiple, self.cfg.d_sae)
        if n_ranks() == 1 or not self.training:
            return select_over_batch(encoder, centred_BD, int(k * len(centred_BD)))
        return select_over_ranks(encoder, centred_BD, int(k * len(centred_BD) * n_ranks()))

    @override
    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        output = super().training_forward_pass(step_input)
        if output.feature_acts.is_sparse:  # SAELens's dense step has moved the threshold already
            self.update_topk_threshold(output.feature_acts.coalesce().values())
        output.metrics["topk_threshold"] = self.topk_threshold
        return output


def require_per_token(sae: object, name: str) -> None:
    """Raise a ConfigError if, in its current mode, the SAE's code of a token depends on the rest of the batch."""
    if not isinstance(sae, BatchTopKTrainingSAE):
        return
    if sae.training or not isinstance(sae, BatchSelectionSAE) or sae.topk_threshold == 0:
        raise ConfigError(
            f"{name} selects over the batch, so that the codes of a token would depend on others; call sae.eval() "
            "after its first step, or load what save_inference_model(FOLDER) writes."
        )
