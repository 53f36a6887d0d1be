"""Recognise signed inference SAEs."""

from typing import Any, TypeGuard

import torch
from jaxtyping import Bool
from sae_lens import SAE, AbsTopKSAE, AbsTopKSAEConfig, JumpReLUSAE
from torch import Tensor

from sae_lens_abstopk.saes.signed_jumprelu import SignedJumpReLUSAE, SignedJumpReLUSAEConfig
from sae_lens_abstopk.saes.traits import overridden
from sae_lens_abstopk.system.errors import ConfigError

SignedSAE = AbsTopKSAE | SignedJumpReLUSAE
SIGNED_ARCHITECTURES = (AbsTopKSAEConfig.architecture(), SignedJumpReLUSAEConfig.architecture())
"""Names of the signed inference architectures in files."""


def signed_latents(sae: SAE[Any]) -> Bool[Tensor, " F"]:
    """Return which latents may fire on both sides; with thresholds by pole, perhaps only some."""
    return open_poles(sae).all(0)


def open_poles(sae: SAE[Any]) -> Bool[Tensor, "2 F"]:
    """Return which poles may fire, positive ones first; an infinite threshold closes a pole."""
    if isinstance(sae, SignedJumpReLUSAE) and sae.cfg.pole_thresholds:
        return torch.stack([sae.threshold.detach(), sae.negative_threshold.detach()]) < torch.inf
    has_pole = torch.tensor([True, isinstance(sae, SignedSAE)], device=sae.W_dec.device)
    has_pole = has_pole[:, None].expand(2, sae.cfg.d_sae)
    # closed poles of a signed SAE are latents of its mirror too
    return has_pole & (sae.threshold < torch.inf) if isinstance(sae, JumpReLUSAE) else has_pole


def is_signed(sae: SAE[Any]) -> TypeGuard[SignedSAE]:
    """Return whether ``sae`` is one of :data:`SIGNED_ARCHITECTURES`, and no subclass that changes the codes."""
    base = AbsTopKSAE if isinstance(sae, AbsTopKSAE) else SignedJumpReLUSAE
    return isinstance(sae, base) and not overridden(sae, base, ("encode", "decode", "get_activation_fn"))


def require_signed(sae: SAE[Any], what: str) -> SignedSAE:
    """Return ``sae``; raise a ConfigError unless :func:`is_signed`, which ``what`` needs."""
    if not is_signed(sae):
        raise ConfigError(
            f"{what} needs a signed SAE for inference (abstopk, signed_jumprelu, or a subclass that codes as they do), "
            f"and this is {sae.cfg.architecture()!r}. A training SAE becomes one with save_inference_model(FOLDER) and "
            "SAE.load_from_disk(FOLDER); SAEs with non-negative codes do not need this."
        )
    return sae
