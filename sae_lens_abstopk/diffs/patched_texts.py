"""Text that one model of a pair writes with the other's activations along one direction."""

from dataclasses import replace
from itertools import takewhile
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache

from sae_lens_abstopk.model.activation_edits import intervene
from sae_lens_abstopk.model.generation import TextModel, TokenBatch
from sae_lens_abstopk.model.model_pair import ModelPair
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.text.token_text import TokenText


def patched(x: Float[Tensor, "... d"], other: Float[Tensor, "... d"], unit: Float[Tensor, " d"]) -> Tensor:
    """Return x with the projection of ``other`` on a unit vector in place of its own."""
    return x + ((other - x) @ unit)[..., None] * unit


@torch.no_grad()
def patched_texts(
    pair: ModelPair,
    prompts: list[str],
    unit: Float[Tensor, " d"],
    *,
    of: Literal["base", "tuned"],
    token_filter: TokenFilter,
    max_new_tokens: int,
    **options: Any,
) -> list[str]:
    """
    Continue prompts greedily with one model, whose activations are :func:`patched` from the other.

    The other model reads the same tokens. Of the tuned model, this removes what the fine-tune changed along the unit
    vector at the hook; to the base model, it brings only that.

    Args:
        of: The model that writes.
        token_filter: Tokens that are patched; a limit of their norm does not count.
        options: Keyword arguments of :class:`~sae_lens_abstopk.model.generation.TextModel`.
    """
    hook, read = pair.spec.hook_name, list[Tensor]()
    # both models' rows have to be those of the same tokens
    kept = replace(token_filter, max_norm=None)
    writer, reader = (pair.base, pair.tuned) if of == "base" else (pair.tuned, pair.base)
    caches = DynamicCache(), DynamicCache()

    def keep(x: Tensor) -> Tensor:
        read.append(x)
        return x

    def patch(x: Tensor) -> Tensor:
        return patched(x.float(), read.pop().to(x.device).float(), unit.to(x.device)).to(x.dtype)

    with reader() as model:
        read_by = TextModel(model, **options)
    with writer() as model:
        written_by = TextModel(model, **options)
    batch = written_by.encode(prompts)
    start = batch.ids.shape[1]
    for _ in range(max_new_tokens):
        with reader() as model, intervene(model, hook, keep, token_filter=kept):
            # two whole models may be on two devices
            read_by.next_logits(TokenBatch(*(each.to(read_by.device) for each in batch)), cache=caches[0])
        with writer() as model, intervene(model, hook, patch, token_filter=kept):
            chosen = written_by.next_logits(batch, cache=caches[1]).argmax(-1, keepdim=True)
        batch = TokenBatch(torch.cat([batch.ids, chosen], 1), torch.cat([batch.mask, torch.ones_like(chosen)], 1))
    text_of = TokenText(pair.tokenizer)
    rows = (takewhile(lambda token: token not in written_by.ends, row) for row in batch.ids[:, start:].tolist())
    return [text_of.joined(list(row)) for row in rows]
