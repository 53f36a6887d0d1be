"""Forward passes that an evaluation needs: clean, up to the hook, and with another activation at the hook."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from sae_lens.load_model import HookedProxyLM
from sae_lens.util import extract_stop_at_layer_from_tlens_hook_name
from torch import nn
from torch.nn.functional import cross_entropy
from transformer_lens.HookedRootModule import HookedRootModule


class CleanPass(NamedTuple):
    """One pass with the hook left alone."""

    losses: torch.Tensor
    """Cross-entropy of each predicted token (nats), flat, float64, on the CPU."""
    activations: torch.Tensor
    """[batch, context, d_in] at the hook."""


class ModelPasses:
    """
    Runs one model around one hook.

    Where the hook is the output of a layer of a transformers model, :meth:`losses_with` does not run that layer and
    those below it again, as their result is replaced anyhow; ``skip_below=False`` runs everything, for comparison.
    """

    def __init__(
        self, model: HookedRootModule, hook_name: str, *, autocast: bool = False, skip_below: bool = True
    ) -> None:
        self.model, self.hook_name, self.autocast = model, hook_name, autocast
        self._below = layers_up_to(model, hook_name) if skip_below else []

    @torch.no_grad()
    def clean(self, tokens: torch.Tensor) -> CleanPass:
        """Losses and activations of token ids [batch, context]."""
        seen: list[torch.Tensor] = []

        def look(activations: torch.Tensor, hook: Any) -> None:  # noqa: ARG001  # TransformerLens names it
            seen.append(activations)

        losses = self._losses(tokens, look)
        return CleanPass(losses, seen[0].flatten(2))

    @torch.no_grad()
    def activations(self, tokens: torch.Tensor) -> torch.Tensor:
        """Activations [batch, context, d_in] alone; the layers above the hook are not run."""
        with self._autocast(tokens):
            _, cache = self.model.run_with_cache(
                tokens,
                names_filter=[self.hook_name],
                stop_at_layer=extract_stop_at_layer_from_tlens_hook_name(self.hook_name),
                prepend_bos=False,
            )
        return cache[self.hook_name].flatten(2)

    @torch.no_grad()
    def losses_with(self, tokens: torch.Tensor, activations: torch.Tensor) -> torch.Tensor:
        """Losses, as in :class:`CleanPass`, with ``activations`` [batch, context, d_in] in place of the hook's."""

        def replace(original: torch.Tensor, hook: Any) -> torch.Tensor:  # noqa: ARG001  # TransformerLens names it
            return activations.to(original.dtype).view_as(original)

        with _skipped(self._below, activations):
            return self._losses(tokens, replace)

    def _losses(self, tokens: torch.Tensor, hook: Any) -> torch.Tensor:
        with self._autocast(tokens):
            logits = self.model.run_with_hooks(tokens, return_type="logits", fwd_hooks=[(self.hook_name, hook)])
        targets = tokens[:, 1:].to(logits.device)
        losses = cross_entropy(logits[:, :-1].flatten(0, 1).float(), targets.flatten(), reduction="none")
        return losses.double().cpu()

    def _autocast(self, tokens: torch.Tensor) -> torch.autocast:
        return torch.autocast(tokens.device.type, dtype=torch.bfloat16, enabled=self.autocast)


def layers_up_to(model: HookedRootModule, hook_name: str) -> list[nn.Module]:
    """The layers of a transformers model up to the one whose output is ``hook_name``; empty for any other hook."""
    match = re.fullmatch(r"(.+)\.(\d+)", hook_name)
    if not isinstance(model, HookedProxyLM) or match is None:
        return []
    layers = dict(model.model.named_modules()).get(match[1])
    if not isinstance(layers, nn.ModuleList):
        return []
    return list(layers)[: int(match[2]) + 1]


@contextmanager
def _skipped(layers: list[nn.Module], activations: torch.Tensor) -> Iterator[None]:
    """Let ``layers`` hand their input on, and the last of them hand out ``activations``; their hooks still run."""

    def hand_on(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:  # noqa: ARG001
        return hidden_states

    def hand_out(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:  # noqa: ARG001
        return activations.to(hidden_states.dtype)

    try:
        for layer in layers:
            layer.forward = hand_out if layer is layers[-1] else hand_on
        yield
    finally:
        for layer in layers:
            del layer.forward  # uncovers the method of the class
