"""The sign gauge: (w_j, b_j, d_j) -> -(w_j, b_j, d_j) changes nothing, so a published SAE is put into one gauge."""

from typing import Any

import torch
from sae_lens import SAE

from sae_lens_abstopk.saes.derive import derive
from sae_lens_abstopk.saes.signed import SignedSAE, require_signed
from sae_lens_abstopk.system.errors import ConfigError


def canonical_gauge(sae: SAE[Any], energy: torch.Tensor) -> SignedSAE:
    """
    A copy of ``sae`` with the pole of more activation energy positive in every latent.

    Reconstructions are equal to the bit and the codes of flipped latents change sign. A latent whose poles have equal
    energy (one that never fired, say) stays as it is.

    Args:
        sae: ``abstopk`` or ``signed_jumprelu``, for inference.
        energy: Sum of z^2 of each pole [2, d_sae], positive row first: ``PoleActivity.energy``.

    Raises:
        ConfigError: ``sae`` is not signed, or ``energy`` has another shape, or is negative or not finite.
    """
    signed = require_signed(sae, "canonical_gauge")
    flipped = flipped_latents(energy, signed.cfg.d_sae).to(signed.W_dec.device)
    sign = torch.where(flipped, -1, 1).to(signed.W_dec)
    state = signed.state_dict()
    state |= {"W_enc": state["W_enc"] * sign, "b_enc": state["b_enc"] * sign, "W_dec": state["W_dec"] * sign[:, None]}
    if "negative_threshold" in state:
        positive, negative = state["threshold"], state["negative_threshold"]
        state["threshold"] = torch.where(flipped, negative, positive)
        state["negative_threshold"] = torch.where(flipped, positive, negative)
    return derive(type(signed), type(signed.cfg), signed, state)


def flipped_latents(energy: torch.Tensor, d_sae: int) -> torch.Tensor:
    """
    The latents that :func:`canonical_gauge` flips, bool [d_sae], on the device of ``energy`` [2, d_sae].

    Raises:
        ConfigError: ``energy`` has another shape, or is negative or not finite.
    """
    if not isinstance(energy, torch.Tensor):
        raise ConfigError(
            f"energy is a {type(energy).__name__}; give a tensor [2, {d_sae}], such as measure_poles(FOLDER).energy."
        )
    if tuple(energy.shape) != (2, d_sae):
        raise ConfigError(
            f"energy has the shape {list(energy.shape)}; this SAE needs [2, {d_sae}], positive row first."
        )
    if not (energy.isfinite() & (energy >= 0)).all():
        raise ConfigError("energy must be finite and at least 0: it is a sum of squared codes.")
    return energy[1] > energy[0]
