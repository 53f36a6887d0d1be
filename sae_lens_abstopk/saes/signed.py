"""Recognise signed inference SAEs."""

from typing import Any, TypeGuard

import torch
from jaxtyping import Bool
from sae_lens import SAE, AbsTopKSAE, AbsTopKSAEConfig, JumpReLUSAE
from torch import Tensor

from sae_lens_abstopk.saes.own_code import overridden
from sae_lens_abstopk.saes.signed_jumprelu import SignedJumpReLUSAE, SignedJumpReLUSAEConfig
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


def _changed_methods(sae: SignedSAE) -> list[str]:
    """Return the methods by which a subclass changes the codes."""
    base = AbsTopKSAE if isinstance(sae, AbsTopKSAE) else SignedJumpReLUSAE
    return overridden(sae, base, ("encode", "decode", "get_activation_fn"))


def is_signed(sae: SAE[Any]) -> TypeGuard[SignedSAE]:
    """Return whether ``sae`` is one of :data:`SIGNED_ARCHITECTURES` with unchanged codes."""
    return isinstance(sae, SignedSAE) and not _changed_methods(sae)


def require_sae(sae: object, what: str) -> None:
    """Raise a ConfigError if ``sae`` is not a loaded SAE, which ``what`` needs."""
    if not hasattr(sae, "cfg"):  # a compiled SAE has this attribute too
        raise ConfigError(
            f"{what} needs an SAE in memory, and was given {sae!r:.60}; load it: SAE.load_from_disk(FOLDER)."
        )


def require_signed(sae: SAE[Any], what: str) -> SignedSAE:
    """Return ``sae``; raise a ConfigError if it is not signed, is in training, or its subclass changes the codes."""
    require_sae(sae, what)
    if not isinstance(sae, SignedSAE):
        raise ConfigError(
            f"{what} needs a signed SAE for inference (abstopk, signed_jumprelu), and this is "
            f"{sae.cfg.architecture()!r}. A training SAE becomes one with save_inference_model(FOLDER) and "
            "SAE.load_from_disk(FOLDER); SAEs with non-negative codes do not need this."
        )
    if changed := _changed_methods(sae):
        raise ConfigError(
            f"{what} knows how abstopk and signed_jumprelu code, and {type(sae).__name__} changes "
            f"{' and '.join(changed)}."
        )
    return sae
