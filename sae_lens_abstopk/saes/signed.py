"""The signed SAEs for inference, and the refusal of all others."""

from typing import Any

from sae_lens import SAE, AbsTopKSAE

from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.saes.signed_jumprelu import SignedJumpReLUSAE

SignedSAE = AbsTopKSAE | SignedJumpReLUSAE
SIGNED_ARCHITECTURES = ("abstopk", "signed_jumprelu")
"""What their configs call them."""


def require_signed(sae: SAE[Any], what: str) -> SignedSAE:
    """
    Refuse what is not a signed SAE for inference.

    Raises:
        ConfigError: ``sae`` has non-negative codes, or is one in training.
    """
    if isinstance(sae, AbsTopKSAE | SignedJumpReLUSAE):
        return sae
    raise ConfigError(
        f"{what} needs a signed SAE for inference (abstopk, signed_jumprelu), and this is {sae.cfg.architecture()!r}. "
        "A training SAE becomes one with save_inference_model(FOLDER) and SAE.load_from_disk(FOLDER); all other SAEs have "
        "non-negative codes already and do not need this."
    )
