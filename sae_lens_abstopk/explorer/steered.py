"""What the model writes when a latent is pushed to either side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from sae_lens import SAE
from sae_lens.load_model import HookedProxyLM
from transformer_lens.model_bridge import TransformerBridge

from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.evaluation.passes.token_text import TokenText
from sae_lens_abstopk.evaluation.steering.steer import steer

STRENGTHS = (-4.0, -2.0, 0.0, 2.0, 4.0)
NEW_TOKENS = 24


@dataclass(frozen=True)
class SteeredText:
    """One prompt, gone on with at each of :data:`STRENGTHS`."""

    prompt: str
    texts: tuple[str, ...]
    """What was written after the prompt, strongest negative push first."""


@torch.no_grad()
def steered_texts(
    model: Any,
    sae: SAE[Any],
    scales: Mapping[int, float],
    prompts: Sequence[str],
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[int, tuple[SteeredText, ...]]:
    """
    Greedy continuations of ``prompts`` with ``strength * scale`` of a latent added on every token.

    Args:
        model: The language model, with a tokenizer.
        sae: Its SAE.
        scales: Latent to the size of a code that a strength of 1 stands for.
        prompts: Plain text.
        on_progress: Called with (latents done, latents in all).

    Returns:
        Latent to one text a prompt.

    Raises:
        ConfigError: a prompt holds no token.
    """
    encoded = encode_prompts(model, prompts)
    unsteered = [_written(model, ids) for ids in encoded]
    found: dict[int, tuple[SteeredText, ...]] = {}
    for number, (latent, scale) in enumerate(scales.items(), start=1):
        rows: list[list[str]] = [[] for _ in prompts]
        for strength in STRENGTHS:
            if strength == 0:
                for row, text in zip(rows, unsteered, strict=True):
                    row.append(text)
                continue
            with steer(model, sae, latent=latent, strength=strength, scale=scale):
                for row, ids in zip(rows, encoded, strict=True):
                    row.append(_written(model, ids))
        found[latent] = tuple(SteeredText(prompt, tuple(row)) for prompt, row in zip(prompts, rows, strict=True))
        if on_progress is not None:
            on_progress(number, len(scales))
    return found


def encode_prompts(model: Any, prompts: Sequence[str]) -> list[torch.Tensor]:
    """
    Token ids [1, n] of each prompt.

    Raises:
        ConfigError: a prompt holds no token.
    """
    encoded = [model.tokenizer(prompt, return_tensors="pt")["input_ids"] for prompt in prompts]
    for prompt, ids in zip(prompts, encoded, strict=True):
        if ids.shape[1] == 0:
            raise ConfigError(
                f"the prompt {prompt!r} holds no token, so there is nothing to continue; give another one."
            )
    return encoded


def _written(model: Any, ids: torch.Tensor) -> str:
    if isinstance(model, HookedProxyLM):
        network: Any = model.model
        ids = ids.to(next(network.parameters()).device)
        whole = network.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            pad_token_id=model.tokenizer.pad_token_id or 0,
        )
    else:  # HookedTransformer and TransformerBridge
        # with a cache, the layers of a bridge see the newest token alone
        cached = not isinstance(model, TransformerBridge)
        whole = model.generate(ids, max_new_tokens=NEW_TOKENS, do_sample=False, verbose=False, use_past_kv_cache=cached)
    special = set(model.tokenizer.all_special_ids)
    new = [token for token in whole[0, ids.shape[1] :].tolist() if token not in special]
    return TokenText(model.tokenizer).joined(new)  # the last character may be cut off
