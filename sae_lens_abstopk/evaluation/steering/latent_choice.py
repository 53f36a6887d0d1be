"""Which of several candidate latents steers a concept: chosen on val prompts."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sae_lens import SAE
from torch import nn

from sae_lens_abstopk.evaluation.steering.dose_response import split_prompts
from sae_lens_abstopk.evaluation.steering.doses import LogOdds, require_part
from sae_lens_abstopk.evaluation.steering.interventions import Intervention
from sae_lens_abstopk.evaluation.steering.steer import checked_latent
from sae_lens_abstopk.evaluation.tasks.task import TaskSteering
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.one_or_more import one_or_more


@dataclass(frozen=True)
class LatentChoice:
    """The latent that :func:`choose_latent` chose, and what it chose from."""

    latent: int
    orientation: Literal[1, -1]
    """1 where positive codes lead to pole B."""
    scale: float
    candidates: tuple[int, ...]
    effects: tuple[float, ...]
    """Of each candidate: (log-odds at a strength of 1 - log-odds at -1) / 2, mean over the val prompts."""

    def __str__(self) -> str:
        return (
            f"largest mean change of the log-odds on val prompts at strengths of ±1, among "
            f"{len(self.candidates)} candidate latents"
        )


def choose_latent(
    model: nn.Module,
    sae: SAE[Any],
    part: TaskSteering,
    candidates: Sequence[int],
    scales: Callable[[int], float],
    *,
    tokenizer: Any = None,
    seed: int = 0,
    autocast: bool = False,
    token_filter: TokenFilter | None = None,
) -> LatentChoice:
    """
    Of ``candidates``, the latent whose two directions move the log-odds furthest apart on the val prompts.

    The best probe of a concept need not be what the model goes by, so give the best ten or so of a probe and not one.
    The prompts are split as :func:`dose_response` splits them with the same seed, and its test prompts are not looked at.

    Args:
        model: As for :func:`steer`.
        sae: The SAE.
        part: Prompts and token sets.
        candidates: Latents.
        scales: s of a latent, as :class:`LatentScales` gives it.
        tokenizer: By default the model's own.
        seed: Of the split.
        autocast: See :class:`TextModel`.
        token_filter: The SAE's by default.

    Raises:
        ConfigError: there is no candidate, one has no scale, or no candidate gives finite log-odds.
    """
    candidates = [checked_latent(latent, sae) for latent in one_or_more(candidates)]
    require_part(part)
    if not candidates:
        raise ConfigError("candidates is empty; give latents to choose from, such as the best of a probe.")
    prompts = split_prompts(part.prompts, seed=seed).val
    log_odds = LogOdds(model, sae, part, prompts, tokenizer=tokenizer, autocast=autocast, token_filter=token_filter)
    effects = []
    for latent in candidates:
        steered = Intervention("candidate", "add", scales(latent), latent)
        plus, minus = (sum(log_odds.log_odds(steered, sign)) for sign in (1, -1))
        effects.append((plus - minus) / 2 / len(prompts))
    # a model that overflows gives NaN, which every comparison with would let win
    finite = [i for i, effect in enumerate(effects) if math.isfinite(effect)]
    if not finite:
        raise ConfigError(
            f"steering with any of the candidates {list(candidates)} at strength 1 gives log-odds that are not finite: the "
            "model overflows; load it in bfloat16 or float32 (model_from_pretrained_kwargs), or give smaller scales."
        )
    best = max(finite, key=lambda i: abs(effects[i]))
    return LatentChoice(
        latent=candidates[best],
        orientation=1 if effects[best] >= 0 else -1,
        scale=scales(candidates[best]),
        candidates=tuple(candidates),
        effects=tuple(effects),
    )
