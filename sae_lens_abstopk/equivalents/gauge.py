"""The sign gauge: (w_j, b_j, d_j) -> -(w_j, b_j, d_j) changes nothing, so published SAEs are put into one gauge."""

from typing import Any

import torch
from sae_lens import SAE

from sae_lens_abstopk.saes.derive import derive
from sae_lens_abstopk.saes.poles import flipped_latents, require_of_poles
from sae_lens_abstopk.saes.signed import SignedSAE, require_signed
from sae_lens_abstopk.system.errors import ConfigError


def canonical_gauge(sae: SAE[Any], energy: torch.Tensor) -> SignedSAE:
    """
    A copy of ``sae`` with the pole of more activation energy positive in every latent.

    Reconstructions are equal to the bit and the codes of flipped latents change sign. A latent whose poles have equal
    energy, such as one that never fired, stays as it is.

    Args:
        sae: ``abstopk`` or ``signed_jumprelu``, for inference.
        energy: Sum of z^2 of each pole [2, d_sae], positive row first: ``PoleActivity.energy``.

    Raises:
        ConfigError: ``sae`` is not signed, or ``energy`` has another shape, or is negative or not finite.
    """
    signed = require_signed(sae, "canonical_gauge")
    require_of_poles("energy", energy, signed.cfg.d_sae)
    if not (energy.isfinite() & (energy >= 0)).all():
        raise ConfigError("energy must be finite and at least 0: it is a sum of squared codes.")
    flipped = flipped_latents(energy).to(signed.W_dec.device)
    sign = torch.where(flipped, -1, 1).to(signed.W_dec)
    state = signed.state_dict()
    state |= {"W_enc": state["W_enc"] * sign, "b_enc": state["b_enc"] * sign, "W_dec": state["W_dec"] * sign[:, None]}
    if "negative_threshold" in state:
        positive, negative = state["threshold"], state["negative_threshold"]
        state["threshold"] = torch.where(flipped, negative, positive)
        state["negative_threshold"] = torch.where(flipped, positive, negative)
    return derive(type(signed), type(signed.cfg), signed, state)
