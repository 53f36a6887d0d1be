"""Forward passes around a hook: clean, up to the hook, and with another activation at the hook."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Self, cast

import torch
from sae_lens.load_model import HookedProxyLM
from sae_lens.util import extract_stop_at_layer_from_tlens_hook_name
from torch import nn
from torch.nn.functional import kl_div, log_softmax, nll_loss
from transformer_lens.HookedRootModule import HookedRootModule

from sae_lens_abstopk.model.inference import bfloat16_autocast, in_evaluation_mode
from sae_lens_abstopk.model.model_spec import ModelSpec
from sae_lens_abstopk.system.errors import ConfigError, require_same_width

# logits scored at a time: 128 MiB of float32
SCORED_ENTRIES = 2**25


class CleanPass(NamedTuple):
    """Result of a pass without a change at the hook."""

    losses: torch.Tensor
    """Cross-entropy of each predicted token (nats), flat, float64, on the CPU."""
    activations: torch.Tensor
    """Activations [batch, context, d_in] at the hook, or at one head of it."""
    logits: torch.Tensor | None = None
    """Logits [batch, context, vocabulary] in the model's dtype, if kept."""


class ReplacedPass(NamedTuple):
    """Result of a pass with another activation at the hook."""

    losses: torch.Tensor
    """As in :class:`CleanPass`."""
    divergences: torch.Tensor | None
    """KL(clean || this) of each prediction (nats), flat, float64, on the CPU."""


@dataclass(eq=False)
class ModelPasses:
    """
    Forward passes of one model around one hook.

    If the hook is the output of a layer of a transformers model, :meth:`replaced` skips the layers up to it, since
    their result is replaced; ``skip_below=False`` runs everything, for comparison. Models whose layers return a tuple
    (GPT-Neo, Bloom, Falcon, MPT) or share keys and values (Gemma 3n and 4) always run everything.

    All heads of a hook [batch, context, heads, d_head] form one activation; ``head_index`` selects one head.

    Raises:
        ConfigError: in a pass, if activations do not have the width ``d_in``, or the hook lacks the head.
    """

    model: HookedRootModule
    hook_name: str
    _: KW_ONLY
    autocast: bool = False
    reads_bfloat16: bool | None = None
    """Whether :meth:`activations` runs in bfloat16 autocast; None does as the other passes do."""
    skip_below: bool = True
    d_in: int | None = None
    head_index: int | None = None

    @classmethod
    def of_spec(cls, model: HookedRootModule, spec: ModelSpec, *, d_in: int) -> Self:
        """Make the passes of ``model`` around the hook of ``spec``."""
        return cls(model, spec.hook_name, autocast=spec.autocast_lm, d_in=d_in, head_index=spec.hook_head_index)

    def in_bfloat16(self, autocast: bool) -> Self:
        """Return the same passes, whose :meth:`activations` run in bfloat16 autocast or do not."""
        return replace(self, reads_bfloat16=autocast)

    def reading(self, device: torch.device) -> torch.autocast:
        """Return the context in which activations are read."""
        if self.reads_bfloat16 is None:
            return bfloat16_autocast(device, enabled=self.autocast)
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.reads_bfloat16)

    @torch.no_grad()
    def clean(self, tokens: torch.Tensor, *, keep_logits: bool = False) -> CleanPass:
        """Run token ids [batch, context]; ``keep_logits`` for :meth:`replaced`."""
        seen: list[torch.Tensor] = []

        def look(activations: torch.Tensor, hook: Any) -> None:  # noqa: ARG001  # TransformerLens names it
            seen.append(activations)

        logits = self._logits(tokens, look)
        activations = self._read(seen[0])
        return CleanPass(scores(logits, tokens).losses, activations, logits if keep_logits else None)

    @torch.no_grad()
    def activations(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return activations [batch, context, d_in]; the layers above the hook do not run."""
        with in_evaluation_mode(self.model), self.reading(tokens.device):
            _, cache = self.model.run_with_cache(
                tokens,
                names_filter=[self.hook_name],
                stop_at_layer=extract_stop_at_layer_from_tlens_hook_name(self.hook_name),
                prepend_bos=False,
            )
        return self._read(cache[self.hook_name])

    @torch.no_grad()
    def replaced(
        self, tokens: torch.Tensor, activations: torch.Tensor, *, clean_logits: torch.Tensor | None = None
    ) -> ReplacedPass:
        """
        Run a pass with ``activations`` [batch, context, d_in] in place of the hook's.

        With ``clean_logits`` of the same tokens, the result has the divergence from them.
        """
        return scores(self.logits_with(tokens, activations), tokens, clean_logits)

    def logits_with(self, tokens: torch.Tensor, activations: torch.Tensor) -> torch.Tensor:
        """Return logits [batch, context, vocabulary] with ``activations`` in place of the hook's; gradients flow."""

        def replace(original: torch.Tensor, hook: Any) -> torch.Tensor:  # noqa: ARG001  # TransformerLens names it
            if self.head_index is None:
                return activations.to(original).view_as(original)
            with_head = original.clone()
            with_head[:, :, self.head_index] = activations.to(original)
            return with_head

        with _skipped(self._skippable, activations):
            return self._logits(tokens, replace)

    def divergence_gradient(
        self, tokens: torch.Tensor, activations: torch.Tensor, clean_logits: torch.Tensor
    ) -> torch.Tensor:
        """Return the gradient [batch, context, d_in] of the summed divergences of :meth:`replaced`."""
        with torch.enable_grad():
            moved = activations.detach().requires_grad_()
            logits = self.logits_with(tokens, moved)
            # the gradient of KL(clean || softmax(logits)) in the logits
            slope = logits.detach().float().softmax(-1) - clean_logits.to(logits.device).float().softmax(-1)
            slope[:, -1] = 0
            return torch.autograd.grad(logits, moved, slope.to(logits))[0]

    @cached_property
    def device(self) -> torch.device:
        """Device of the activations at the hook; on a model over several devices, a pass over two tokens finds it."""
        devices = {weight.device for weight in self.model.parameters()}
        return devices.pop() if len(devices) == 1 else self._activation_of_two_tokens().device

    def _activation_of_two_tokens(self) -> torch.Tensor:
        return self.activations(torch.zeros(1, 2, dtype=torch.int64, device=next(self.model.parameters()).device))

    @cached_property
    def _skippable(self) -> list[nn.Module]:
        """Layers that need not run when the hook is replaced."""
        layers = layers_up_to(self.model, self.hook_name) if self.skip_below else []
        # layers of Gemma 3n and Gemma 4 read keys and values of lower layers
        if not layers or getattr(cast(Any, self.model).model.config.get_text_config(), "num_kv_shared_layers", 0):
            return []
        given: list[Any] = []
        handle = layers[-1].register_forward_hook(lambda _, __, output: given.append(output))
        try:
            self._activation_of_two_tokens()
        finally:
            handle.remove()
        return layers if isinstance(given[0], torch.Tensor) else []

    def _read(self, hooked: torch.Tensor) -> torch.Tensor:
        activations = select_head(hooked, self.head_index, self.hook_name).flatten(2)
        if self.d_in is not None:
            require_same_width(f"{self.hook_name} of this model", activations.shape[-1], "the SAE", self.d_in)
        return activations

    def _logits(self, tokens: torch.Tensor, hook: Any) -> torch.Tensor:
        with in_evaluation_mode(self.model), bfloat16_autocast(tokens.device, enabled=self.autocast):
            return self.model.run_with_hooks(tokens, return_type="logits", fwd_hooks=[(self.hook_name, hook)])


def select_head(hooked: torch.Tensor, head: int | None, hook_name: str) -> torch.Tensor:
    """Return head ``head`` [batch, context, d_head] of ``hooked`` [batch, context, heads, d_head]; None keeps all."""
    if head is None:
        return hooked
    heads = hooked.shape[2] if hooked.ndim == 4 else 0
    if not -heads <= head < heads:
        has = f"heads 0 to {heads - 1}" if heads else "no heads; set it to null, or take a hook such as attn.hook_z"
        raise ConfigError(f"hook_head_index={head}: {hook_name} of this model has {has}.")
    return hooked[:, :, head]


def scores(logits: torch.Tensor, tokens: torch.Tensor, clean: torch.Tensor | None = None) -> ReplacedPass:
    """Score logits [batch, context, vocabulary], and their divergence from a clean pass's."""
    losses, divergences = [], []
    # a chunk at a time: float32 log-probabilities of a whole batch can be larger than the model
    n = max(SCORED_ENTRIES // logits.shape[-1], 1)
    for row, ids in enumerate(tokens.to(logits.device)):
        for start in range(0, len(ids) - 1, n):
            scored = slice(start, min(start + n, len(ids) - 1))
            log_p = log_softmax(logits[row, scored].float(), dim=-1)
            losses.append(nll_loss(log_p, ids[1:][scored], reduction="none"))
            if clean is not None:
                log_clean = log_softmax(clean[row, scored].to(log_p.device).float(), dim=-1)
                divergences.append(kl_div(log_p, log_clean, log_target=True, reduction="none").sum(-1))
    return ReplacedPass(
        torch.cat(losses).cpu().double(), torch.cat(divergences).cpu().double() if clean is not None else None
    )


def layers_up_to(model: HookedRootModule, hook_name: str) -> list[nn.Module]:
    """Return the layers up to the one whose output is ``hook_name``; an empty list for any other hook."""
    stack, _, layer = hook_name.rpartition(".")
    layers = dict(model.model.named_modules()).get(stack) if isinstance(model, HookedProxyLM) else None
    return list(layers)[: int(layer) + 1] if isinstance(layers, nn.ModuleList) and layer.isdecimal() else []


@contextmanager
def _skipped(layers: list[nn.Module], activations: torch.Tensor) -> Iterator[None]:
    """Replace ``layers`` by the identity, and the last by ``activations``; their hooks still run."""

    def hand_on(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:  # noqa: ARG001
        return hidden_states

    def hand_out(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:  # noqa: ARG001
        return activations.to(hidden_states.dtype)

    # on several devices, accelerate sets its own forwards on the layers
    own = [vars(layer).get("forward") for layer in layers]
    try:
        for layer in layers:
            layer.forward = hand_out if layer is layers[-1] else hand_on
        yield
    finally:
        for layer, forward in zip(layers, own, strict=True):
            if forward is None:
                del layer.forward  # makes the class's method visible again
            else:
                layer.forward = forward
