"""Batch AbsTopK: the k * B pre-activations of largest magnitude over a batch of B tokens, sign included."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from sae_lens import SAEConfig
from torch import nn
from typing_extensions import override

from sae_lens_abstopk.saes.batch_selection import BatchSelectionConfig, BatchSelectionSAE
from sae_lens_abstopk.saes.signed_jumprelu import SignedJumpReLUSAEConfig
from sae_lens_abstopk.saes.signed_training import SignedTrainingSAE, SignedTrainingSAEConfig
from sae_lens_abstopk.sparse import pole_limits
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.ranks import least


class BatchAbsTopK(nn.Module):
    """Keeps the ``int(k * n_tokens)`` entries of largest magnitude of [..., d_sae] and zeroes the others."""

    def __init__(self, k: float, within: Callable[[torch.Tensor], torch.Tensor] = lambda x: x) -> None:
        super().__init__()
        self.k = k
        self.within = within

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.within(x)
        flat = x.flatten()
        kept = flat.abs().topk(int(self.k * x.shape[:-1].numel()), sorted=False).indices
        return torch.zeros_like(flat).scatter(0, kept, flat.gather(0, kept)).view_as(x)


@dataclass(kw_only=True)
class BatchAbsTopKTrainingSAEConfig(SignedTrainingSAEConfig, BatchSelectionConfig):
    """
    Config for training with batch-level selection, as the paper's own trainer does; saved as ``signed_jumprelu``.

    Options are its own and those of :class:`.BatchSelectionConfig` and :class:`.SignedTrainingSAEConfig`.

    Args:
        signed_share: Share of the latents that may fire on both sides, the first ones; the others fire on the positive
            side alone, as in TopK. At 1 this is AbsTopK, at 0 BatchTopK.
    """

    signed_share: float = 1.0

    @override
    def __post_init__(self) -> None:
        if isinstance(self.signed_share, bool) or not 0 <= self.signed_share <= 1:
            raise ConfigError(
                f"signed_share={self.signed_share!r} must lie between 0 and 1: the share of latents with two sides."
            )
        super().__post_init__()
        if self.signed_share > 0 and self.n_signed == 0:
            raise ConfigError(
                f"signed_share={self.signed_share!r} of d_sae={self.d_sae} latents is less than one; give at least "
                f"{1 / self.d_sae:g}, or 0 to sign none."
            )

    @property
    def n_signed(self) -> int:
        """Number of latents that may fire on both sides."""
        return round(self.signed_share * self.d_sae)

    @property
    def pole_thresholds(self) -> bool:
        """SAELens copies every option of the inference config from this one; a closed pole's threshold is infinity."""
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

    ``topk_threshold`` (a float64 scalar) follows the smallest magnitude that a batch kept, in the units in which the
    batch was selected; saving folds it, with the decoder norms, into the threshold of a ``signed_jumprelu`` SAE. It
    starts at the first batch's, while SAELens's ``batchtopk``, and so ``sparse_batchtopk``, averages from 0.
    """

    cfg: BatchAbsTopKTrainingSAEConfig  # type: ignore[assignment]

    def __init__(self, cfg: BatchAbsTopKTrainingSAEConfig, use_error_term: bool = False) -> None:
        super().__init__(cfg, use_error_term)
        self._open_poles: torch.Tensor | None = None

    @property
    @override
    def open_poles(self) -> torch.Tensor | None:
        if self.cfg.signed_share == 1:
            return None
        # not a buffer: SAELens loads an SAE by way of the meta device, which leaves nothing of one that no file holds
        if self._open_poles is None or self._open_poles.device != self.W_dec.device:
            self._open_poles = torch.ones(2, self.cfg.d_sae, dtype=torch.bool, device=self.W_dec.device)
            self._open_poles[1, self.cfg.n_signed :] = False
        return self._open_poles

    @override
    def get_activation_fn(self) -> Callable[[torch.Tensor], torch.Tensor]:
        return BatchAbsTopK(self.cfg.k, self._within_open_poles)

    def _within_open_poles(self, hidden_pre: torch.Tensor) -> torch.Tensor:
        """Pre-activations [..., d_sae], 0 on the side of a closed pole."""
        open_poles = self.open_poles
        if open_poles is None:
            return hidden_pre
        return hidden_pre.clamp(*pole_limits(open_poles, hidden_pre.dtype))

    @override
    def over_threshold(self, hidden_pre: torch.Tensor) -> torch.Tensor:
        hidden_pre = self._within_open_poles(hidden_pre)
        return torch.where(hidden_pre.abs() <= self.topk_threshold, 0.0, hidden_pre)

    @override
    def process_state_dict_for_saving_inference(self, state_dict: dict[str, Any]) -> None:
        super().process_state_dict_for_saving_inference(state_dict)
        open_poles = self.open_poles
        if open_poles is not None:
            state_dict["negative_threshold"] = state_dict["threshold"].masked_fill(~open_poles[1], torch.inf)

    @override
    @torch.no_grad()
    def update_topk_threshold(self, acts_topk: torch.Tensor) -> None:
        """Move the threshold towards the smallest magnitude among codes of any shape; the first batch sets it."""
        magnitudes = acts_topk.abs()
        magnitudes = magnitudes.masked_fill(magnitudes == 0, torch.inf)
        # one of several ranks may have kept nothing
        smallest = magnitudes.min() if magnitudes.numel() else magnitudes.new_tensor(torch.inf)
        smallest = least(smallest.to(self.topk_threshold.dtype))
        # The first value counts whole: an average that starts at 0 would still be low after a short run.
        lr = torch.where(self.topk_threshold == 0, 1.0, self.cfg.topk_threshold_lr)
        moved = (1 - lr) * self.topk_threshold + lr * smallest
        self.topk_threshold.copy_(torch.where(smallest.isfinite(), moved, self.topk_threshold))
