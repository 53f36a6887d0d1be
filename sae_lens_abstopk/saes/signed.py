"""The signed SAEs for inference, and the refusal of all others."""

from pathlib import PurePath
from typing import Any, TypeGuard

import torch
from sae_lens import SAE, AbsTopKSAE, JumpReLUSAE

from sae_lens_abstopk.saes.own_code import has_foreign
from sae_lens_abstopk.saes.signed_jumprelu import SignedJumpReLUSAE
from sae_lens_abstopk.system.errors import ConfigError

SignedSAE = AbsTopKSAE | SignedJumpReLUSAE
SIGNED_ARCHITECTURES = ("abstopk", "signed_jumprelu")
"""What their configs call them."""


def signed_latents(sae: SAE[Any]) -> torch.Tensor:
    """Which latents may fire on both sides, bool [d_sae]; of a ``signed_jumprelu`` with thresholds by pole maybe a few."""
    return open_poles(sae).all(0)


def open_poles(sae: SAE[Any]) -> torch.Tensor:
    """Which poles may fire, the positive ones first: bool [2, d_sae]."""
    if isinstance(sae, SignedJumpReLUSAE) and sae.cfg.pole_thresholds:
        return torch.stack([sae.threshold.detach(), sae.negative_threshold.detach()]).isfinite()
    has_pole = torch.tensor([True, isinstance(sae, SignedSAE)], device=sae.W_dec.device)
    has_pole = has_pole[:, None].expand(2, sae.cfg.d_sae)
    # the closed poles of a signed SAE are latents of its mirror
    return has_pole & sae.threshold.isfinite() if isinstance(sae, JumpReLUSAE) else has_pole


def _changed(sae: SAE[Any]) -> list[str]:
    """Methods of a subclass elsewhere by which it codes in another way."""
    return [method for method in ("encode", "decode", "get_activation_fn") if has_foreign(sae, method)]


def is_signed(sae: SAE[Any]) -> TypeGuard[SignedSAE]:
    """Whether ``sae`` is signed and codes as one of :data:`SIGNED_ARCHITECTURES`."""
    return isinstance(sae, SignedSAE) and not _changed(sae)


def require_sae(sae: object, what: str) -> None:
    """
    Refuse what is no SAE in memory, such as the folder of one.

    Raises:
        ConfigError: always then.
    """
    if not hasattr(sae, "cfg"):  # torch.compile hands on what an SAE has
        told = repr(sae) if isinstance(sae, str | PurePath) else f"a {type(sae).__name__}"
        raise ConfigError(f"{what} needs an SAE in memory, and was given {told}; load it: SAE.load_from_disk(FOLDER).")


def require_signed(sae: SAE[Any], what: str) -> SignedSAE:
    """
    Refuse what is not a signed SAE for inference.

    Raises:
        ConfigError: ``sae`` has non-negative codes, is one in training, or a subclass elsewhere that codes in another way.
    """
    require_sae(sae, what)
    if isinstance(sae, SignedSAE):
        if changed := _changed(sae):
            raise ConfigError(
                f"{what} goes by how abstopk and signed_jumprelu code, and {type(sae).__name__} changes {' and '.join(changed)}; "
                "it cannot be taken for one of them."
            )
        return sae
    raise ConfigError(
        f"{what} needs a signed SAE for inference (abstopk, signed_jumprelu), and this is {sae.cfg.architecture()!r}. "
        "A training SAE becomes one with save_inference_model(FOLDER) and SAE.load_from_disk(FOLDER); SAEs with "
        "non-negative codes do not need this."
    )
