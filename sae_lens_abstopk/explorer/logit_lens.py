"""Which tokens a decoder row promotes and demotes when it is added to the residual stream."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

BLOCK = 256
# shown on each side
TOKENS = 8
# outputs that are in the residual stream: other hooks may be as wide and mean something else
IN_STREAM = re.compile(
    r"hook_(resid_(pre|mid|post)|attn_out|mlp_out|embed)$|(^|\.)(layers|h|blocks)\.\d+(\.(mlp|attn|attention|self_attn))?$"
)
# what layers that have one of these put the outputs of their attention and MLP through first (Gemma from 2 on, OLMo 2, GLM-4)
POST_NORMS = {"post_feedforward_layernorm", "post_mlp_layernorm", "post_self_attn_layernorm"}


class TokenEffects(NamedTuple):
    """For each latent, the tokens whose logits +d raises most and lowers most; -d does the reverse."""

    promoted: torch.Tensor
    """Token ids by falling effect, int64 [n_latents, TOKENS]."""
    promoted_by: torch.Tensor
    """Their effects in standard deviations over the vocabulary, float32 [n_latents, TOKENS]."""
    demoted: torch.Tensor
    """Token ids by rising effect."""
    demoted_by: torch.Tensor


@torch.no_grad()
def token_effects(model: Any, W_dec: torch.Tensor, hook_name: str) -> TokenEffects | None:
    """
    The logit lens on decoder rows [F, D]: what each does to the logits if it reaches the end of the model unchanged.

    The row goes through the final norm as if it were the whole residual stream, which scales it and applies the norm's
    weights; the constant that the norm adds is taken out. Only the order and the relative size of effects mean anything,
    so they are given in standard deviations over the vocabulary. None where the hook is not the residual stream or what
    an attention or MLP block adds to it as it is, or the model has no unembedding that can be found.
    """
    readout = _readout(model, W_dec.shape[1]) if _in_stream(model, hook_name) else None
    if readout is None:
        return None
    parts: list[tuple[torch.Tensor, ...]] = []
    for rows in W_dec.detach().split(BLOCK):
        logits = readout(rows)
        effect = (logits - logits.mean(-1, keepdim=True)) / logits.std(-1, keepdim=True).clamp(min=1e-12)
        up, down = effect.topk(TOKENS), effect.topk(TOKENS, largest=False)
        parts.append((up.indices.cpu(), up.values.cpu(), down.indices.cpu(), down.values.cpu()))
    return TokenEffects(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _in_stream(model: Any, hook_name: str) -> bool:
    """Whether what is at a hook is added to the residual stream as it is, or is the stream."""
    block = re.fullmatch(r"(.+\.\d+)\.[a-z_]+", hook_name)
    layer = None if block is None else dict(model.named_modules()).get(f"model.{block[1]}")  # of SAELens's proxy
    children = set() if layer is None else dict(layer.named_children()).keys()
    return IN_STREAM.search(hook_name) is not None and not POST_NORMS & children


def _readout(model: Any, width: int) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Directions [n, width] to logits [n, vocabulary], final norm included."""
    if hasattr(model, "W_U"):  # HookedTransformer and TransformerBridge
        norm, unembed = model.ln_final, model.W_U.T
    else:
        head = model.model.get_output_embeddings()
        if head is None:
            return None
        norm, unembed = _final_norm(model), head.weight
    if unembed.shape[1] != width or norm is None:
        return None
    if model.tokenizer is not None:
        unembed = unembed[: len(model.tokenizer)]  # some vocabularies are filled up with rows of no token

    def read(rows: torch.Tensor) -> torch.Tensor:
        x = rows.to(unembed)[None]
        return ((norm(x) - norm(torch.zeros_like(x)))[0].to(unembed) @ unembed.T).float()

    return read


def _final_norm(model: Any) -> torch.nn.Module | None:
    """The norm that runs last in a forward pass of a transformers model, whatever the model calls it."""
    last: list[torch.nn.Module] = []

    def note(module: torch.nn.Module, args: Any, output: Any) -> None:  # noqa: ARG001  # torch calls it so
        last[:] = [module]

    norms = [module for module in model.model.modules() if type(module).__name__.endswith(("Norm", "RMSNorm"))]
    handles = [module.register_forward_hook(note) for module in norms]
    try:
        model.model(torch.zeros(1, 1, dtype=torch.int64, device=next(model.model.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    return last[0] if last else None
