"""
How far a base model patched at the hook is from its fine-tune, in KL(tuned || patched) of each prediction.

Only kept tokens are patched; the layers above the hook are the base model's.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from sae_lens.training.activations_store import _get_input_token_device
from torch import Tensor
from torch.nn.functional import kl_div
from transformer_lens.HookedRootModule import HookedRootModule

from sae_lens_abstopk.diffs.held_out import HeldOut
from sae_lens_abstopk.model.inference import casts_shared
from sae_lens_abstopk.model.model_pair import ModelPair
from sae_lens_abstopk.model.model_passes import ModelPasses

BASE, CEILING, MEAN = "(base)", "(difference)", "(mean difference)"

PREDICTIONS = 16
"""Predictions scored at a time, so few that the processor's cache holds their logits."""

Patch = Callable[[Float[Tensor, "n d_in"]], Float[Tensor, "n d_in"]]
"""Function from the differences of kept tokens, on the CPU, to what is added to the base model's activations."""


class Target(NamedTuple):
    """One pass of the tuned model, to compare patched passes of the base model with."""

    tokens: Int[Tensor, "b context"]
    logits: Float[Tensor, "b context vocabulary"]

    @classmethod
    @torch.no_grad()
    def of(cls, pair: ModelPair, held_out: HeldOut) -> Self:
        """Run the tuned model from its activations at the hook on."""
        with pair.tuned() as model:
            passes = pair.passes(model)
            logits = passes.logits_with(_tokens(model, held_out), held_out.tuned.to(passes.device))
        return cls(_tokens(pair.base_model, held_out), logits)

    def divergences(
        self, passes: ModelPasses, activations: Tensor, rows: Tensor | slice = slice(None)
    ) -> Float[np.ndarray, "b predictions"]:
        """Return the KL of each prediction of some of the rows with these base activations [b, context, d_in]."""
        return self.divergences_of(passes.logits_with(self.tokens[rows], activations.to(passes.device)), rows)

    def divergences_of(
        self, logits: Float[Tensor, "b context vocabulary"], rows: Tensor | slice = slice(None)
    ) -> Float[np.ndarray, "b predictions"]:
        """Return the KL(tuned || these logits) of each prediction of some of the rows."""
        found = []
        for ours, theirs in zip(logits[:, :-1].split(1), self.logits[rows][:, :-1].split(1), strict=True):
            for q, p in zip(ours[0].split(PREDICTIONS), theirs[0].to(ours.device).split(PREDICTIONS), strict=True):
                found.append(kl_of_logits(p.float(), q.float()))
        return torch.cat(found).cpu().double().view(len(logits), -1).numpy()


class Divergences(NamedTuple):
    """KL(tuned || patched) of each prediction of N contexts, in nats, and what both models predict."""

    by_patch: dict[str, Float[np.ndarray, "N predictions"]]
    """Without a patch (``BASE``), with the difference itself, with its mean, and with the patches given."""
    tuned_next: Int[Tensor, "N context"]
    """The first choice of each model after each token."""
    base_next: Int[Tensor, "N context"]


def reconstruction(sae: SAE[Any]) -> Patch:
    """Return the patch with what an SAE reconstructs."""
    return lambda x: sae.decode(sae.encode(x.to(sae.W_dec.device)))


@torch.no_grad()
@casts_shared()
def divergences(
    pair: ModelPair,
    held_out: HeldOut,
    patches: Mapping[str, Patch],
    *,
    on_pass: Callable[[], None] = lambda: None,
) -> Divergences:
    """Run the base model with every patch; ``on_pass`` is called after each pass."""
    mean = held_out.mean
    every: dict[str, Patch] = {CEILING: lambda x: x, MEAN: lambda x: mean.expand_as(x), **patches}
    found: dict[str, list[np.ndarray]] = {name: [] for name in (BASE, *every)}
    tuned_next, base_next = [], []
    for part in held_out.passes():
        target = Target.of(pair, part)
        with pair.base() as model:
            passes = pair.passes(model)
            unpatched = passes.logits_with(target.tokens, part.base.to(passes.device))
            found[BASE].append(target.divergences_of(unpatched))
            tuned_next.append(target.logits.argmax(-1).cpu())
            base_next.append(unpatched.argmax(-1).cpu())
            del unpatched
            on_pass()
            for name, patch in every.items():
                found[name].append(target.divergences(passes, part.moved(patch(part.x).cpu())))
                on_pass()
    by_patch = {name: np.concatenate(parts) for name, parts in found.items()}
    return Divergences(by_patch, torch.cat(tuned_next), torch.cat(base_next))


def kl_of_logits(p: Float[Tensor, "n vocabulary"], q: Float[Tensor, "n vocabulary"]) -> Float[Tensor, " n"]:
    """Return KL(p || q) of two sets of logits: log E_p[exp(q - p - E_p[q - p])], which is exact where it is small."""
    weights, apart = p.softmax(-1), q - p
    apart -= torch.linalg.vecdot(weights, apart)[:, None]
    exact = torch.linalg.vecdot(weights, apart.expm1()).log1p()
    if exact.isfinite().all():
        return exact
    return kl_div(q.log_softmax(-1), p.log_softmax(-1), reduction="none", log_target=True).sum(-1)


def _tokens(model: HookedRootModule, held_out: HeldOut) -> Tensor:
    return held_out.tokens.to(_get_input_token_device(model))
