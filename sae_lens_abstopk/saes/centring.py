"""What the decoder bias of an SAE starts at: the centre of real activations."""

from typing import Any, Literal

import torch
from sae_lens import TrainingSAE

from sae_lens_abstopk.system.ranks import averaged

BDecInitMethod = Literal["mean", "geometric_median", "zeros"]
# steps towards a geometric median at most; it is reached when one is shorter than this share of its own norm
MEDIAN_ITERATIONS, MEDIAN_TOLERANCE = 100, 1e-6


def geometric_median(x: torch.Tensor) -> torch.Tensor:
    """
    The point with the least summed distance to the rows of ``x``, by Weiszfeld's iteration from the mean.

    Args:
        x: [n, d], float32 or float64.

    Returns:
        [d].
    """
    median = x.mean(0)
    for _ in range(MEDIAN_ITERATIONS):
        weights = 1 / (x - median).norm(dim=1).clamp(min=1e-8)
        moved = (weights[:, None] * x).sum(0) / weights.sum()
        step = (moved - median).norm()
        median = moved
        if step <= MEDIAN_TOLERANCE * median.norm():
            break
    return median


@torch.no_grad()
def initialize_b_dec(sae: TrainingSAE[Any], activations: torch.Tensor, method: str) -> None:
    """
    Centre an SAE that is about to take its first step; over several ranks, on the mean of their means or medians.

    Args:
        sae: One whose ``b_dec`` is still zero; a fine-tuned one keeps what it has.
        activations: [n_tokens, d_in], in the units that the SAE is given.
        method: ``"mean"``, ``"geometric_median"`` or ``"zeros"``.
    """
    if method == "zeros" or sae.b_dec.any():
        return
    x_BD = sae.run_time_activation_norm_fn_in(activations.to(sae.dtype)).flatten(0, -2).float()
    centre = averaged(x_BD.mean(0) if method == "mean" else geometric_median(x_BD))
    sae.b_dec.copy_(centre)
    if not sae.cfg.apply_b_dec_to_input:  # what the encoder reads is centred by its bias then
        shift = centre.to(sae.dtype) @ sae.W_enc
        for name in ("b_enc", "b_gate", "b_mag"):
            bias = getattr(sae, name, None)
            if bias is not None:
                bias.sub_(shift)
