"""What the model writes when a latent is pushed to either side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sae_lens import SAE

from sae_lens_abstopk.evaluation.steering.steer import steer
from sae_lens_abstopk.model.generation import TextModel, TokenBatch
from sae_lens_abstopk.model.token_filter import TokenSelection
from sae_lens_abstopk.text.token_text import TokenText

STRENGTHS = (-4.0, -2.0, 0.0, 2.0, 4.0)
NEW_TOKENS = 24


@dataclass(frozen=True)
class SteeredText:
    """One prompt, gone on with at each of :data:`STRENGTHS`."""

    prompt: str
    texts: tuple[str, ...]
    """What was written after the prompt, strongest negative push first."""


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
    text_model = TextModel(model, prepend_bos=TokenSelection.of_sae(sae).prepend_bos)
    encoded = text_model.encode(prompts)
    unsteered = _written(text_model, encoded)
    found: dict[int, tuple[SteeredText, ...]] = {}
    for number, (latent, scale) in enumerate(scales.items(), start=1):
        columns = []
        for strength in STRENGTHS:
            if strength == 0:
                columns.append(unsteered)
                continue
            with steer(model, sae, latent=latent, strength=strength, scale=scale):
                columns.append(_written(text_model, encoded))
        found[latent] = tuple(SteeredText(*row) for row in zip(prompts, zip(*columns, strict=True), strict=True))
        if on_progress is not None:
            on_progress(number, len(scales))
    return found


def _written(model: TextModel, prompts: TokenBatch) -> list[str]:
    new = model.generate(prompts, samples=1, max_new_tokens=NEW_TOKENS, temperature=0).new
    text_of, special = TokenText(model.tokenizer), set(model.tokenizer.all_special_ids)
    return [  # the last character may be cut off
        text_of.joined([token for token in ids[mask.bool()].tolist() if token not in special])
        for ids, mask in zip(new.ids, new.mask, strict=True)
    ]
