"""Continuations of prompts with a latent steered to either side."""

from collections.abc import Mapping, Sequence
from typing import Any

from sae_lens import SAE

from sae_lens_abstopk.evaluation.steering.steer import Operator, steer
from sae_lens_abstopk.explorer.latents import SteeredText
from sae_lens_abstopk.model.generation import TextModel
from sae_lens_abstopk.model.token_filter import TokenSelection
from sae_lens_abstopk.system.terminal import PassProgress

STRENGTHS = (-4.0, -2.0, 0.0, 2.0, 4.0)
NEW_TOKENS = 24


def steered_texts(
    model: Any,
    sae: SAE[Any],
    scales: Mapping[int, float],
    prompts: Sequence[str],
    *,
    strengths: Sequence[float] = STRENGTHS,
    operator: Operator = "add",
    chat: bool = False,
    max_new_tokens: int = NEW_TOKENS,
    on_progress: PassProgress | None = None,
) -> dict[int, tuple[SteeredText, ...]]:
    """
    Continue ``prompts`` greedily with ``strength * scale`` of a latent added at every token, for all ``strengths``.

    With the operator ``cap``, a token is moved only until its projection is that large.
    ``scales`` maps latents to the code that a strength of 1 adds. With ``chat`` the prompts are turns of a user.
    Returns one text per prompt for each latent. ``on_progress`` is called with (latents done, latents in all).
    """
    of_two_models = sae.cfg.metadata.get("source") == "model_difference"
    # of two models, a prompt is read as the tokenizer does, as beside what the models write
    prepend_bos = None if of_two_models else TokenSelection.of_sae(sae).prepend_bos
    text_model = TextModel(model, prepend_bos=prepend_bos, chat=chat)
    encoded = text_model.encode(prompts)
    unsteered = text_model.greedy(encoded, max_new_tokens)
    found: dict[int, tuple[SteeredText, ...]] = {}
    for number, (latent, scale) in enumerate(scales.items(), start=1):
        columns = []
        for strength in strengths:
            if strength == 0:
                columns.append(unsteered)
                continue
            with steer(model, sae, latent=latent, strength=strength, scale=scale, operator=operator):
                columns.append(text_model.greedy(encoded, max_new_tokens))
        found[latent] = tuple(map(SteeredText, prompts, zip(*columns, strict=True)))
        if on_progress is not None:
            on_progress(number, len(scales))
    return found
