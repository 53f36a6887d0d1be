"""The sign gauge: (w_j, b_j, d_j) -> -(w_j, b_j, d_j) changes nothing, so published SAEs are put into one gauge."""

from typing import Any

import torch
from sae_lens import SAE

from sae_lens_abstopk.saes.derive import derive
from sae_lens_abstopk.saes.poles import flipped_latents
from sae_lens_abstopk.saes.signed import SignedSAE, require_signed


def canonical_gauge(sae: SAE[Any], energy: torch.Tensor) -> SignedSAE:
    """
    A copy of ``sae`` with the pole of more activation energy positive in every latent.

    Reconstructions are equal to the bit and the codes of flipped latents change sign. A latent whose poles have equal
    energy, such as one that never fired, stays as it is.

    Args:
        sae: ``abstopk`` or ``signed_jumprelu``, for inference.
        energy: Sum of z^2 of each pole [2, d_sae], positive row first: ``PoleActivity.energy``.
    """
    signed = require_signed(sae, "canonical_gauge")
    flipped = flipped_latents(energy).to(signed.W_dec.device)
    sign = torch.where(flipped, -1, 1).to(signed.W_dec)
    state = signed.state_dict()
    state |= {"W_enc": state["W_enc"] * sign, "b_enc": state["b_enc"] * sign, "W_dec": state["W_dec"] * sign[:, None]}
    if "negative_threshold" in state:
        positive, negative = state["threshold"], state["negative_threshold"]
        state["threshold"] = torch.where(flipped, negative, positive)
        state["negative_threshold"] = torch.where(flipped, positive, negative)
    return derive(type(signed), type(signed.cfg), signed, state)
