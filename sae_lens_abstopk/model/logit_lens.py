"""The logit lens: the tokens that a direction promotes."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

ROWS_AT_ONCE = 256
# number of tokens on each side
TOKENS = 8
# hooks whose output is in the residual stream; others may have the same width and another meaning
IN_STREAM = re.compile(
    r"hook_(resid_(pre|mid|post)|attn_out|mlp_out|embed)$|(^|\.)(layers|h|blocks)\.\d+(\.(mlp|attn|attention|self_attn))?$"
)
# norms between attention or MLP and the stream (Gemma from 2 on, OLMo 2, GLM-4)
POST_NORMS = {"post_feedforward_layernorm", "post_mlp_layernorm", "post_self_attn_layernorm"}


class TokenEffects(NamedTuple):
    """For each latent, the tokens whose logits +d raises most (row 0) and lowers most (row 1); -d does the reverse."""

    tokens: torch.Tensor
    """Token ids, largest effect first: int64 [2, n_latents, TOKENS]."""
    by: torch.Tensor
    """Effects in standard deviations over the vocabulary: float32 [2, n_latents, TOKENS]."""


@torch.no_grad()
def token_effects(model: Any, W_dec: torch.Tensor, hook_name: str) -> TokenEffects | None:
    """
    Apply the logit lens to decoder rows [F, D]: their effect on the logits if no layer above changes them.

    A row goes through the final norm as if it were the whole residual stream, minus the constant that the norm adds.
    Only the order and the relative size of effects mean anything. None if the hook's output does not enter the residual
    stream unchanged, or the model's unembedding is unknown.
    """
    readout = _readout(model, W_dec.shape[1]) if _in_stream(model, hook_name) else None
    if readout is None:
        return None
    tokens, by = [], []
    for rows in W_dec.detach().split(ROWS_AT_ONCE):
        logits = readout(rows)
        effect = (logits - logits.mean(-1, keepdim=True)) / logits.std(-1, keepdim=True).clamp(min=1e-12)
        extremes = effect.topk(TOKENS), effect.topk(TOKENS, largest=False)
        tokens.append(torch.stack([side.indices.cpu() for side in extremes]))
        by.append(torch.stack([side.values.cpu() for side in extremes]))
    return TokenEffects(torch.cat(tokens, dim=1), torch.cat(by, dim=1))


def _in_stream(model: Any, hook_name: str) -> bool:
    block = re.fullmatch(r"(.+\.\d+)\.[a-z_]+", hook_name)
    layer = None if block is None else dict(model.named_modules()).get(f"model.{block[1]}")  # unwrap SAELens's proxy
    children = set() if layer is None else dict(layer.named_children()).keys()
    return IN_STREAM.search(hook_name) is not None and not POST_NORMS & children


def _readout(model: Any, width: int) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Map directions [n, width] to logits [n, vocabulary] through the final norm."""
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
        unembed = unembed[: len(model.tokenizer)]  # without padding rows

    def read(rows: torch.Tensor) -> torch.Tensor:
        x = rows.to(unembed)[None]
        return ((norm(x) - norm(torch.zeros_like(x)))[0].to(unembed) @ unembed.T).float()

    return read


def _final_norm(model: Any) -> torch.nn.Module | None:
    """Return the norm that runs last in a forward pass; models name it differently."""
    last: list[torch.nn.Module] = []
    norms = [module for module in model.model.modules() if type(module).__name__.endswith("Norm")]
    handles = [norm.register_forward_hook(lambda module, *_: last.append(module)) for norm in norms]
    try:
        model.model(torch.zeros(1, 1, dtype=torch.int64, device=next(model.model.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    return last[-1] if last else None
