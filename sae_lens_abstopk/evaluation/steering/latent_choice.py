"""Choose which of several latents steers a concept, on val prompts."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sae_lens import SAE
from torch import nn

from sae_lens_abstopk.evaluation.steering.dose_response import split_prompts
from sae_lens_abstopk.evaluation.steering.doses import DoseMeter
from sae_lens_abstopk.evaluation.steering.interventions import Intervention
from sae_lens_abstopk.evaluation.steering.steering_edit import checked_latent
from sae_lens_abstopk.evaluation.tasks.task import TaskSteering
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.system.errors import ConfigError


@dataclass(frozen=True)
class LatentChoice:
    """The latent that :func:`choose_latent` chose, and its candidates."""

    latent: int
    orientation: Literal[1, -1]
    """1 if positive codes lead to pole B."""
    scale: float
    candidates: tuple[int, ...]
    effects: tuple[float, ...]
    """Per candidate: (log-odds at strength 1 - log-odds at strength -1) / 2, mean over the val prompts."""

    def __str__(self) -> str:
        n = len(self.candidates)
        return f"largest mean change of the log-odds on val prompts at strengths of ±1, among {n} candidate latents"


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
    Choose the candidate whose two directions move the log-odds furthest apart on the val prompts.

    The best probe of a concept need not be the latent that the model uses, so give the best ten or so of a probe.
    Prompts are split as in :func:`dose_response` with the same seed; its test prompts are not read.

    Args:
        candidates: Latents to choose from.
        scales: s of a latent, such as :class:`LatentScales`; other arguments are those of :func:`dose_response`.

    Raises:
        ConfigError: a candidate has no scale, or none gives finite log-odds.
    """
    prompts = split_prompts(part.prompts, seed=seed).val
    meter = DoseMeter(model, sae, part, prompts, tokenizer=tokenizer, autocast=autocast, token_filter=token_filter)
    effects: dict[int, float] = {}
    for latent in (checked_latent(candidate, sae) for candidate in candidates):
        added = Intervention("candidate", "add", scales(latent), latent)
        plus, minus = (sum(meter.log_odds(added, sign)) for sign in (1, -1))
        effects[latent] = (plus - minus) / 2 / len(prompts)
    finite = [latent for latent, effect in effects.items() if math.isfinite(effect)]
    if not finite:
        raise ConfigError(
            f"log-odds at strength 1 are not finite for any candidate of {list(effects)}; load the model in bfloat16 "
            "or float32, or give smaller scales."
        )
    best = max(finite, key=lambda latent: abs(effects[latent]))
    return LatentChoice(
        latent=best,
        orientation=1 if effects[best] >= 0 else -1,
        scale=scales(best),
        candidates=tuple(effects),
        effects=tuple(effects.values()),
    )
