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
from transformer_lens.HookedRootModule import HookedRootModule

from sae_lens_abstopk.diffs.held_out import HeldOut
from sae_lens_abstopk.model.inference import casts_shared
from sae_lens_abstopk.model.model_pair import ModelPair
from sae_lens_abstopk.model.model_passes import ModelPasses, scores

BASE, CEILING, MEAN = "(base)", "(difference)", "(mean difference)"

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
        tokens = self.tokens[rows]
        found = passes.replaced(tokens, activations.to(passes.device), clean_logits=self.logits[rows]).divergences
        assert found is not None
        return found.view(len(tokens), -1).numpy()


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
            of_base = scores(unpatched, target.tokens, target.logits).divergences
            assert of_base is not None
            found[BASE].append(of_base.view(len(part.tokens), -1).numpy())
            tuned_next.append(target.logits.argmax(-1).cpu())
            base_next.append(unpatched.argmax(-1).cpu())
            del unpatched
            on_pass()
            for name, patch in every.items():
                found[name].append(target.divergences(passes, part.moved(patch(part.x).cpu())))
                on_pass()
    by_patch = {name: np.concatenate(parts) for name, parts in found.items()}
    return Divergences(by_patch, torch.cat(tuned_next), torch.cat(base_next))


def _tokens(model: HookedRootModule, held_out: HeldOut) -> Tensor:
    return held_out.tokens.to(_get_input_token_device(model))
