"""The decoder bias that an SAE starts with: the centre of real activations."""

from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from sae_lens import TrainingSAE
from torch import Tensor

from sae_lens_abstopk.sparse import row_norms
from sae_lens_abstopk.system.ranks import averaged

BDecInitMethod = Literal["mean", "geometric_median", "zeros"]
# most iterations; converged when a step is shorter than this share of the norm
MEDIAN_ITERATIONS, MEDIAN_TOLERANCE = 100, 1e-6


def geometric_median(x: Float[Tensor, "n D"]) -> Float[Tensor, " D"]:
    """Return the point with the least summed distance to the rows of ``x``, by Weiszfeld's iteration from the mean."""
    median = x.mean(0)
    for _ in range(MEDIAN_ITERATIONS):
        weights = 1 / row_norms(x - median).clamp(min=1e-8)
        moved = (weights[:, None] * x).sum(0) / weights.sum()
        step = row_norms((moved - median)[None])
        median = moved
        if step <= MEDIAN_TOLERANCE * row_norms(median[None]):
            break
    return median


@torch.no_grad()
def initialize_b_dec(sae: TrainingSAE[Any], activations: Float[Tensor, "... D"], method: str) -> None:
    """
    Centre an SAE on ``activations`` before its first step; over several ranks, on the mean of their centres.

    A ``b_dec`` that is not zero, as in fine-tuning, stays.
    """
    if method == "zeros" or sae.b_dec.any():
        return
    x = cast(Tensor, sae.run_time_activation_norm_fn_in(activations.to(sae.dtype)))
    x_BD = x.flatten(0, -2).float()
    centre = averaged(x_BD.mean(0) if method == "mean" else geometric_median(x_BD))
    sae.b_dec.copy_(centre)
    if not sae.cfg.apply_b_dec_to_input:  # the biases of the encoder then centre its input
        shift = centre.to(sae.dtype) @ sae.W_enc
        for name, bias in sae.named_parameters():
            if name in ("b_enc", "b_gate", "b_mag"):
                bias.sub_(shift)
