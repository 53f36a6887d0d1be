"""Batch AbsTopK: the k * B pre-activations of largest magnitude over a batch of B tokens, sign included."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from sae_lens import SAEConfig
from torch import Tensor, nn
from typing_extensions import override

from sae_lens_abstopk.saes.batch_selection import BatchSelectionConfig, BatchSelectionSAE
from sae_lens_abstopk.saes.signed_jumprelu import SignedJumpReLUSAEConfig
from sae_lens_abstopk.saes.signed_training import SignedTrainingSAE, SignedTrainingSAEConfig
from sae_lens_abstopk.saes.traits import Traits
from sae_lens_abstopk.system.errors import ConfigError, require_range
from sae_lens_abstopk.system.ranks import least


class BatchAbsTopK(nn.Module):
    """Keep the ``int(k * n_tokens)`` entries of largest magnitude; from latent ``n_signed`` on, only positive ones."""

    def __init__(self, k: float, n_signed: int) -> None:
        super().__init__()
        self.k, self.n_signed = k, n_signed

    def forward(self, x: Float[Tensor, "... F"]) -> Float[Tensor, "... F"]:
        x = on_open_sides(x, self.n_signed)
        flat = x.flatten()
        kept = flat.abs().topk(int(self.k * x.shape[:-1].numel()), sorted=False).indices
        return torch.zeros_like(flat).scatter(0, kept, flat.gather(0, kept)).view_as(x)


def on_open_sides(hidden_pre: Float[Tensor, "... F"], n_signed: int) -> Float[Tensor, "... F"]:
    """Set negative pre-activations of the latents from ``n_signed`` on to 0."""
    if n_signed == hidden_pre.shape[-1]:
        return hidden_pre
    return torch.cat([hidden_pre[..., :n_signed], hidden_pre[..., n_signed:].clamp(min=0)], dim=-1)


@dataclass(kw_only=True)
class BatchAbsTopKTrainingSAEConfig(SignedTrainingSAEConfig, BatchSelectionConfig):
    """
    Config for training with batch-level selection, as the paper's own trainer does; saved as ``signed_jumprelu``.

    Args:
        signed_share: Share of the latents that may fire on both sides, the first ones; the others fire only on the
            positive side, as in TopK. At 1 this is AbsTopK, at 0 BatchTopK.
    """

    traits: ClassVar[Traits] = Traits(signed=True, k_per="batch")
    signed_share: float = 1.0

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        require_range("signed_share", self.signed_share, at_least=0, at_most=1)
        problem = None
        if self.signed_share > 0 and self.n_signed == 0:
            problem = f"signs none of d_sae={self.d_sae} latents; give at least {1 / self.d_sae:g}, or 0 to sign none"
        elif self.odd and self.n_signed < self.d_sae:
            problem = "leaves latents one-sided, and an odd SAE has none; leave out signed_share or odd"
        if problem is not None:
            raise ConfigError(f"signed_share={self.signed_share!r} {problem}.")

    @property
    @override
    def n_signed(self) -> int:
        return round(self.signed_share * self.d_sae)

    @property
    def pole_thresholds(self) -> bool:
        """Option that SAELens copies to the inference config; a closed pole's threshold is infinity."""
        return self.signed_share < 1

    @override
    @classmethod
    def architecture(cls) -> str:
        return "batch_abstopk"

    @override
    def get_inference_config_class(self) -> type[SAEConfig]:
        return SignedJumpReLUSAEConfig


class BatchAbsTopKTrainingSAE(SignedTrainingSAE, BatchSelectionSAE):
    """
    Training SAE with batch-level signed selection.

    ``topk_threshold`` (a float64 scalar) follows the smallest magnitude that a batch kept, from the first batch's value
    on; saving folds it, with the decoder norms, into the threshold of a ``signed_jumprelu`` SAE.
    """

    cfg: BatchAbsTopKTrainingSAEConfig  # type: ignore[assignment]

    @override
    def get_activation_fn(self) -> Callable[[Tensor], Tensor]:
        return BatchAbsTopK(self.cfg.k, self.cfg.n_signed)

    @override
    def over_threshold(self, hidden_pre: Float[Tensor, "... F"]) -> Float[Tensor, "... F"]:
        hidden_pre = on_open_sides(hidden_pre, self.cfg.n_signed)
        return torch.where(hidden_pre.abs() <= self.topk_threshold, 0.0, hidden_pre)

    @override
    def process_state_dict_for_saving_inference(self, state_dict: dict[str, Any]) -> None:
        super().process_state_dict_for_saving_inference(state_dict)
        if self.cfg.pole_thresholds:
            state_dict["negative_threshold"] = state_dict["threshold"].clone()
            state_dict["negative_threshold"][self.cfg.n_signed :] = torch.inf

    @override
    @torch.no_grad()
    def update_topk_threshold(self, acts_topk: Float[Tensor, "..."]) -> None:
        """Move the threshold towards the smallest magnitude among codes of any shape; the first batch sets it."""
        magnitudes = acts_topk.abs()
        magnitudes = magnitudes.masked_fill(magnitudes == 0, torch.inf)
        # one of several ranks may have kept nothing
        smallest = magnitudes.min() if magnitudes.numel() else magnitudes.new_tensor(torch.inf)
        smallest = least(smallest.to(self.topk_threshold.dtype))
        # the first value counts in full: an average from 0 would still be low after a short run
        lr = torch.where(self.topk_threshold == 0, 1.0, self.cfg.topk_threshold_lr)
        moved = (1 - lr) * self.topk_threshold + lr * smallest
        self.topk_threshold.copy_(torch.where(smallest.isfinite(), moved, self.topk_threshold))
