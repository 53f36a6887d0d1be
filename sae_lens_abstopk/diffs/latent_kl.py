"""How much of the KL between two models each latent accounts for: the KL that is lost without it."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from sae_lens import SAE
from torch import Tensor

from sae_lens_abstopk.diffs.held_out import HeldOut
from sae_lens_abstopk.diffs.patching import Target
from sae_lens_abstopk.model.inference import casts_shared
from sae_lens_abstopk.model.model_pair import ModelPair

SIDES = (0, 1, -1)
"""Which codes of a latent are left out: all, those above 0, those below 0."""
HALF = 0.5
"""Share of the reconstruction at which gradients are taken: where all of it is added they nearly vanish."""


@torch.enable_grad()
@casts_shared()
def estimated_rises(
    pair: ModelPair, held_out: HeldOut, sae: SAE[Any], *, on_pass: Callable[[], None] = lambda: None
) -> Float[np.ndarray, "2 F"]:
    """
    Estimate the rise of the summed KL without the codes above 0, and without those below 0, of each latent.

    To first order, from gradients half way from the base model to the reconstruction: one forward and one backward
    pass, whatever F is.
    """
    rises = torch.zeros(2, sae.cfg.d_sae, dtype=torch.float64)
    for part in held_out.passes():
        target = Target.of(pair, part)
        codes = sae.encode(part.x.to(sae.W_dec.device)).detach().requires_grad_()
        rebuilt = sae.decode(codes)
        with pair.base() as model:
            passes = pair.passes(model)
            activations = part.moved(HALF * rebuilt.detach().cpu()).to(passes.device)
            slope = passes.divergence_gradient(target.tokens, activations, target.logits).cpu()[part.kept]
        on_pass()
        by_code = torch.autograd.grad(rebuilt, codes, slope.to(rebuilt))[0]
        rise = (-by_code * codes).detach().double()
        rises += torch.stack([(rise * (codes > 0)).sum(0), (rise * (codes < 0)).sum(0)]).cpu()
    return rises.numpy()


@torch.no_grad()
@casts_shared()
def measured_rises(
    pair: ModelPair,
    held_out: HeldOut,
    sae: SAE[Any],
    latents: Sequence[int],
    *,
    on_pass: Callable[[], None] = lambda: None,
) -> dict[tuple[int, int], Float[np.ndarray, "N predictions"]]:
    """
    Measure the rise of the KL of each prediction without a latent, and without each of its sides.

    Only contexts in which it is active are run again. Keys are (latent, side of ``SIDES``); ``on_pass`` is called for
    each latent in each part of the contexts.
    """
    found: dict[tuple[int, int], list[np.ndarray]] = {(latent, side): [] for latent in latents for side in SIDES}
    for part in held_out.passes():
        target = Target.of(pair, part)
        codes, context = sae.encode(part.x.to(sae.W_dec.device)), part.kept.nonzero()[:, 0]
        with pair.base() as model:
            passes = pair.passes(model)
            whole = target.divergences(passes, part.moved(sae.decode(codes).cpu()))

            def rise_without(latent: int, left_out: Bool[Tensor, " n"]) -> Float[np.ndarray, "b predictions"]:
                rise, rows = np.zeros_like(whole), context[left_out.cpu()].unique()  # noqa: B023
                if len(rows):
                    there = torch.isin(context, rows).to(codes.device)  # noqa: B023
                    without = codes[there]  # noqa: B023
                    without[left_out[there], latent] = 0
                    moved = part.rows(rows).moved(sae.decode(without).cpu())  # noqa: B023
                    rise[rows] = target.divergences(passes, moved, rows) - whole[rows]  # noqa: B023
                return rise

            for latent in latents:
                column = codes[:, latent]
                rises = {side: rise_without(latent, column * side > 0) for side in (1, -1)}
                two_sided = bool((column > 0).any() and (column < 0).any())
                rises[0] = rise_without(latent, column != 0) if two_sided else rises[1] + rises[-1]
                for side, rise in rises.items():
                    found[latent, side].append(rise)
                on_pass()
    return {key: np.concatenate(parts) for key, parts in found.items()}
