"""Answers of one model of a pair with the difference along one direction of the other, which reads the same tokens."""

from itertools import takewhile
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache

from sae_lens_abstopk.model.activation_edits import intervene
from sae_lens_abstopk.model.generation import TextModel
from sae_lens_abstopk.model.hook_places import transformers_model
from sae_lens_abstopk.model.inference import bfloat16_autocast
from sae_lens_abstopk.model.model_pair import ModelPair
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.text.token_text import TokenText

NOT_FIRST = TokenFilter((1, None))


def patched(x: Float[Tensor, "... d"], other: Float[Tensor, "... d"], unit: Float[Tensor, " d"]) -> Tensor:
    """Return x with the projection of ``other`` on a unit vector in place of its own."""
    return x + ((other - x) @ unit)[..., None] * unit


@torch.no_grad()
def patched_answers(
    pair: ModelPair, prompts: list[str], unit: Float[Tensor, " d"], new_tokens: int, *, of: Literal["base", "tuned"]
) -> list[str]:
    """Return greedy answers of one model, each token but the first :func:`patched` from the other model."""
    hook, caches, read = pair.spec.hook_name, (DynamicCache(), DynamicCache()), list[Tensor]()
    edited, other = (pair.base, pair.tuned) if of == "base" else (pair.tuned, pair.base)

    def keep(x: Tensor) -> Tensor:
        read.append(x)
        return x

    with other() as model:
        new, mask = TextModel(model, chat=True).encode(prompts)
    answers = []
    for _ in range(new_tokens):
        places = (mask.cumsum(-1) - 1).clamp(min=0)[:, -new.shape[1] :]
        given: dict[str, Any] = {"input_ids": new, "attention_mask": mask, "position_ids": places, "use_cache": True}
        with bfloat16_autocast(new.device, enabled=True):
            with other() as model, intervene(model, hook, keep, token_filter=NOT_FIRST):
                _transformers(model)(**given, past_key_values=caches[0])
            seen = read.pop()
            with (
                edited() as model,
                intervene(model, hook, lambda x, seen=seen: patched(x, seen, unit), token_filter=NOT_FIRST),
            ):
                logits = _transformers(model)(**given, past_key_values=caches[1]).logits
        new = logits[:, -1:].argmax(-1)
        mask = torch.cat([mask, torch.ones_like(new)], 1)
        answers.append(new)
    text_of, end = TokenText(pair.tokenizer), pair.tokenizer.eos_token_id
    rows = (list(takewhile(lambda token: token != end, row)) for row in torch.cat(answers, 1).tolist())
    return [text_of.joined(row) for row in rows]


def _transformers(model: Any) -> Any:
    found: Any = transformers_model(model)
    return found
