"""The signed SAEs for inference, and the refusal of all others."""

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
"""The names of both in files."""


def signed_latents(sae: SAE[Any]) -> Bool[Tensor, " F"]:
    """Which latents may fire on both sides; of a ``signed_jumprelu`` with thresholds by pole perhaps a few."""
    return open_poles(sae).all(0)


def open_poles(sae: SAE[Any]) -> Bool[Tensor, "2 F"]:
    """Which poles may fire, the positive ones first; in a file, an infinite threshold closes one."""
    if isinstance(sae, SignedJumpReLUSAE) and sae.cfg.pole_thresholds:
        return torch.stack([sae.threshold.detach(), sae.negative_threshold.detach()]) < torch.inf
    has_pole = torch.tensor([True, isinstance(sae, SignedSAE)], device=sae.W_dec.device)
    has_pole = has_pole[:, None].expand(2, sae.cfg.d_sae)
    # the closed poles of a signed SAE are latents of its mirror
    return has_pole & (sae.threshold < torch.inf) if isinstance(sae, JumpReLUSAE) else has_pole


def _changed(sae: SignedSAE) -> list[str]:
    """Methods of a subclass by which it codes in another way."""
    base = AbsTopKSAE if isinstance(sae, AbsTopKSAE) else SignedJumpReLUSAE
    return overridden(sae, base, ("encode", "decode", "get_activation_fn"))


def is_signed(sae: SAE[Any]) -> TypeGuard[SignedSAE]:
    """Whether ``sae`` is signed and codes as one of :data:`SIGNED_ARCHITECTURES`."""
    return isinstance(sae, SignedSAE) and not _changed(sae)


def require_sae(sae: object, what: str) -> None:
    """Raise a ConfigError if ``sae`` is a folder or another thing, where ``what`` needs an SAE in memory."""
    if not hasattr(sae, "cfg"):  # a compiled SAE has it too
        raise ConfigError(
            f"{what} needs an SAE in memory, and was given {sae!r:.60}; load it: SAE.load_from_disk(FOLDER)."
        )


def require_signed(sae: SAE[Any], what: str) -> SignedSAE:
    """``sae``, or a ConfigError if it is not signed, is in training, or is of a subclass that codes in another way."""
    require_sae(sae, what)
    if not isinstance(sae, SignedSAE):
        raise ConfigError(
            f"{what} needs a signed SAE for inference (abstopk, signed_jumprelu), and this is "
            f"{sae.cfg.architecture()!r}. A training SAE becomes one with save_inference_model(FOLDER) and "
            "SAE.load_from_disk(FOLDER); SAEs with non-negative codes do not need this."
        )
    if changed := _changed(sae):
        raise ConfigError(
            f"{what} knows how abstopk and signed_jumprelu code, and {type(sae).__name__} changes "
            f"{' and '.join(changed)}."
        )
    return sae
