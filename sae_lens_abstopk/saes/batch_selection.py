"""What the SAEs that select over a batch share: a mean k, and a threshold that follows the selection."""

import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.sae import TrainStepInput, TrainStepOutput
from typing_extensions import override

from sae_lens_abstopk.saes.sparse_training import SparseTrainingSAE, SparseTrainingSAEConfig, require_k_in_range
from sae_lens_abstopk.sparse import EncoderWeights, SparseCodes, select_over_batch, select_over_ranks
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.ranks import n_ranks


@dataclass(kw_only=True)
class BatchSelectionConfig(SparseTrainingSAEConfig, BatchTopKTrainingSAEConfig):
    """
    Options of the SAEs that select over a batch.

    Args:
        k: Mean number of active latents per token; need not be an integer.
        topk_threshold_lr: Share by which each batch moves the running threshold.
    """

    k: float = 100  # type: ignore[assignment]
    topk_threshold_lr: float = 0.01

    @override
    def _check_k(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, numbers.Real):
            raise ConfigError(f"k={self.k!r} must be a number: the mean count of active latents per token.")
        self.k = int(self.k) if isinstance(self.k, numbers.Integral) else float(self.k)
        require_k_in_range(self.k, self.d_sae)
        if not 0 < self.topk_threshold_lr <= 1:
            raise ConfigError(f"topk_threshold_lr={self.topk_threshold_lr!r} must be above 0 and at most 1.")


class BatchSelectionSAE(SparseTrainingSAE, BatchTopKTrainingSAE):
    """Keeps the ``int(k * B)`` entries of a batch of B tokens that rank highest, the tokens of all ranks together."""

    cfg: BatchSelectionConfig  # type: ignore[assignment]

    @override
    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Codes [..., d_sae]: in training by the batch, in evaluation mode by the threshold, each token alone."""
        if self.training or self.topk_threshold == 0:
            return super().encode(x)
        hidden_pre = self.hook_sae_acts_pre(self.process_sae_in(x) @ self.W_enc + self.b_enc)
        if self.cfg.rescale_acts_by_decoder_norm:
            hidden_pre = hidden_pre * self.W_dec.norm(dim=-1)
        return self.hook_sae_acts_post(self.over_threshold(hidden_pre))

    @override
    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        # to, half and the like cast every buffer, and in half precision a small share of each batch would not move the threshold
        threshold = self.topk_threshold
        super()._apply(fn, recurse)
        self.topk_threshold = threshold.to(self.topk_threshold.device, torch.float64)
        return self

    @override
    def process_state_dict_for_loading(self, state_dict: dict[str, Any]) -> None:
        super().process_state_dict_for_loading(state_dict)
        if "topk_threshold" in state_dict:
            state_dict["topk_threshold"] = state_dict["topk_threshold"].double()

    def over_threshold(self, hidden_pre: torch.Tensor) -> torch.Tensor:
        """The entries of pre-activations [..., d_sae] that are over the running threshold, the others zero."""
        return torch.where(hidden_pre <= self.topk_threshold, 0.0, hidden_pre)

    @override
    def select(self, encoder: EncoderWeights, centred_BD: torch.Tensor) -> SparseCodes:
        if n_ranks() == 1 or not self.training:
            return select_over_batch(encoder, centred_BD, int(self.cfg.k * len(centred_BD)))
        return select_over_ranks(encoder, centred_BD, int(self.cfg.k * len(centred_BD) * n_ranks()))

    @override
    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        output = super().training_forward_pass(step_input)
        if output.feature_acts.is_sparse:  # SAELens's dense step has moved the threshold already
            self.update_topk_threshold(output.feature_acts._values())
        output.metrics["topk_threshold"] = self.topk_threshold
        return output


def selects_over_batch(sae: object) -> bool:
    """Whether the codes that an SAE gives a token depend, as it is now, on the other tokens that it is given."""
    if not isinstance(sae, BatchTopKTrainingSAE):
        return False
    return sae.training or not isinstance(sae, BatchSelectionSAE) or bool(sae.topk_threshold == 0)
