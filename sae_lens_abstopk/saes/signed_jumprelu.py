"""Signed JumpReLU, for inference: a latent is on if its pre-activation exceeds a threshold in magnitude."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float
from sae_lens import JumpReLUSAE, JumpReLUSAEConfig
from torch import Tensor, nn
from typing_extensions import override

from sae_lens_abstopk.saes.load_note import write_load_note
from sae_lens_abstopk.saes.traits import Traits


@dataclass
class SignedJumpReLUSAEConfig(JumpReLUSAEConfig):
    """
    Config of an SAE with z = u * 1[|u| > threshold]; the other options are SAELens's JumpReLU options.

    Args:
        pole_thresholds: Whether the negative pole has a threshold of its own, as where only a share of the latents is
            signed, or after :func:`sae_lens_abstopk.merge_antipodal`: the others keep one side.
    """

    traits: ClassVar[Traits] = Traits(signed=True, gate="threshold")
    pole_thresholds: bool = False

    @override
    @classmethod
    def architecture(cls) -> str:
        return "signed_jumprelu"


class SignedJumpReLUSAE(JumpReLUSAE):
    """
    Inference form of the batch-level signed SAEs: z_j = u_j * 1[|u_j| > threshold_j], threshold [d_sae].

    With ``pole_thresholds``, z_j = u_j where u_j > threshold_j or -u_j > negative_threshold_j [d_sae]; infinity there
    makes a latent one-sided.
    """

    cfg: SignedJumpReLUSAEConfig  # type: ignore[assignment]
    negative_threshold: nn.Parameter

    @override
    def initialize_weights(self) -> None:
        super().initialize_weights()
        if self.cfg.pole_thresholds:
            self.negative_threshold = nn.Parameter(torch.zeros_like(self.threshold))

    @override
    def encode(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... F"]:
        sae_in = self.process_sae_in(x)
        hidden_pre = self.hook_sae_acts_pre(sae_in @ self.W_enc + self.b_enc)
        if self.cfg.pole_thresholds:
            is_off = (hidden_pre <= self.threshold) & (-hidden_pre <= self.negative_threshold)
        else:
            is_off = hidden_pre.abs() <= self.threshold
        # not times a mask: infinity would become NaN, and a negative value -0; NaN stays NaN
        return self.hook_sae_acts_post(torch.where(is_off, 0.0, hidden_pre))

    @override
    @torch.no_grad()
    def fold_W_dec_norm(self) -> None:
        norms = self.get_W_dec_norm()
        super().fold_W_dec_norm()
        if self.cfg.pole_thresholds:
            self.negative_threshold.mul_(norms)

    @override
    def save_model(self, path: str | Path) -> tuple[Path, Path]:
        written = super().save_model(path)
        write_load_note(path, self.cfg.architecture())
        return written
