"""Continuations of prompts with a latent steered to either side."""

from collections.abc import Mapping, Sequence
from typing import Any

from sae_lens import SAE

from sae_lens_abstopk.evaluation.steering.steer import steer
from sae_lens_abstopk.explorer.latents import SteeredText
from sae_lens_abstopk.model.generation import TextModel, TokenBatch
from sae_lens_abstopk.model.token_filter import TokenSelection
from sae_lens_abstopk.system.terminal import PassProgress
from sae_lens_abstopk.text.token_text import TokenText

STRENGTHS = (-4.0, -2.0, 0.0, 2.0, 4.0)
NEW_TOKENS = 24


def steered_texts(
    model: Any,
    sae: SAE[Any],
    scales: Mapping[int, float],
    prompts: Sequence[str],
    *,
    on_progress: PassProgress | None = None,
) -> dict[int, tuple[SteeredText, ...]]:
    """
    Continue ``prompts`` greedily with ``strength * scale`` of a latent added at every token, for all :data:`STRENGTHS`.

    ``scales`` maps latents to the code that a strength of 1 adds. Returns one text per prompt for each latent.
    ``on_progress`` is called with (latents done, latents in all).
    """
    text_model = TextModel(model, prepend_bos=TokenSelection.of_sae(sae).prepend_bos)
    encoded = text_model.encode(prompts)
    unsteered = _continue(text_model, encoded)
    found: dict[int, tuple[SteeredText, ...]] = {}
    for number, (latent, scale) in enumerate(scales.items(), start=1):
        columns = []
        for strength in STRENGTHS:
            if strength == 0:
                columns.append(unsteered)
                continue
            with steer(model, sae, latent=latent, strength=strength, scale=scale):
                columns.append(_continue(text_model, encoded))
        found[latent] = tuple(map(SteeredText, prompts, zip(*columns, strict=True)))
        if on_progress is not None:
            on_progress(number, len(scales))
    return found


def _continue(model: TextModel, prompts: TokenBatch) -> list[str]:
    new = model.generate(prompts, samples=1, max_new_tokens=NEW_TOKENS, temperature=0).new
    text_of, special = TokenText(model.tokenizer), set(model.tokenizer.all_special_ids)
    return [  # joined by TokenText, because the last character may be cut off
        text_of.joined([token for token in ids[mask.bool()].tolist() if token not in special])
        for ids, mask in zip(new.ids, new.mask, strict=True)
    ]
