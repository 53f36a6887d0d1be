"""Dose-response of steering: effect against cost in both directions, strengths matched at equal cost and reported on test."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sae_lens import SAE
from torch import nn

from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.evaluation.passes.generation import TextModel
from sae_lens_abstopk.evaluation.passes.hook_places import find_place
from sae_lens_abstopk.evaluation.passes.token_filter import TokenFilter
from sae_lens_abstopk.evaluation.steering.doses import Dose, DoseCurve, DoseMeter, LogOdds
from sae_lens_abstopk.evaluation.steering.interventions import Intervention
from sae_lens_abstopk.evaluation.steering.steer import steering_filter
from sae_lens_abstopk.evaluation.steering.steering_summary import (
    InterventionSummary,
    MatchedStrength,
    matched_strength,
    summarise,
)
from sae_lens_abstopk.evaluation.tasks.neutral_text import NEUTRAL_TEXTS
from sae_lens_abstopk.evaluation.tasks.task import SteeringPart
from sae_lens_abstopk.saes.heads import require_all_heads

STRENGTHS = (0.5, 1.0, 2.0, 4.0)


class PromptSplit(NamedTuple):
    """Prompts to choose the latent on, and prompts to report on."""

    val: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class DoseProtocol:
    """How a dose-response was measured, and how what was chosen was chosen."""

    prompts: PromptSplit
    """The latent is chosen on ``val``; everything here was measured on ``test``."""
    strengths: tuple[float, ...]
    """Tried in both directions."""
    budget: float
    """Nats a token of neutral text, the cost that strengths are matched at."""
    samples: int
    max_new_tokens: int
    temperature: float
    seed: int
    neutral_texts: int
    """How many."""
    hook_name: str
    token_filter: TokenFilter
    autocast: bool
    latent_chosen_by: str
    """In words: on which data, by which criterion."""
    strength_chosen_by: str


@dataclass(frozen=True)
class DoseResponse:
    """What :func:`dose_response` measured, on test prompts."""

    protocol: DoseProtocol
    interventions: tuple[Intervention, ...]
    baseline: Dose
    """The unsteered model."""
    curves: tuple[DoseCurve, ...]
    """In the order of the interventions."""
    summaries: tuple[InterventionSummary, ...]

    def summary(self, intervention: str) -> InterventionSummary:
        """The summary of one intervention by its name."""
        return {summary.intervention: summary for summary in self.summaries}[intervention]


def split_prompts(prompts: Sequence[str], *, seed: int = 0) -> PromptSplit:
    """
    Half of the prompts to choose on and half to report on, drawn with ``seed``.

    Raises:
        ConfigError: fewer than four prompts, or one that occurs twice.
    """
    if len(prompts) < 4 or len(set(prompts)) < len(prompts):
        raise ConfigError(
            f"{len(prompts)} prompts: at least 4 are needed, all different; half choose the latent, half give the results."
        )
    drawn = np.random.default_rng(seed).permutation(len(prompts))[: len(prompts) // 2]
    val = set(drawn.tolist())
    return PromptSplit(
        val=tuple(prompt for i, prompt in enumerate(prompts) if i in val),
        test=tuple(prompt for i, prompt in enumerate(prompts) if i not in val),
    )


def dose_response(
    model: nn.Module,
    sae: SAE[Any],
    part: SteeringPart,
    interventions: Sequence[Intervention],
    *,
    latent_chosen_by: str,
    tokenizer: Any = None,
    strengths: Sequence[float] = STRENGTHS,
    budget: float = 0.1,
    samples: int = 3,
    max_new_tokens: int = 24,
    temperature: float = 1.0,
    neutral_texts: Sequence[str] = NEUTRAL_TEXTS,
    seed: int = 0,
    autocast: bool = False,
    hook_name: str | None = None,
    token_filter: TokenFilter | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> DoseResponse:
    """
    Measure ``interventions`` at each of ``strengths`` in both directions.

    The strength of each intervention and direction is searched for, between two of ``strengths``, at which neutral text
    costs the budget, and the effect is measured there, beside all of ``strengths``. All prompts are the test half of the
    split, and nothing is chosen by what the model says to them: the neutral texts belong to no prompt.

    Args:
        model: As for :func:`steer`.
        sae: The SAE.
        part: Prompts, token sets and scorer of the concept: ``task.steering``.
        interventions: See :func:`equal_norm_interventions`.
        latent_chosen_by: How the latent was chosen, in words; recorded.
        tokenizer: By default the model's own.
        strengths: Magnitudes, in units of each intervention's scale.
        budget: Rise of the steered model's NLL of neutral text, in nats a token; 0.1 is a perplexity 1.1 times as high.
        samples: Texts generated for each prompt and dose, each with random numbers of its own.
        max_new_tokens: Their length.
        temperature: Of the sampling.
        neutral_texts: Texts about nothing in particular.
        seed: Of the split of the prompts, the sampling and the bootstrap.
        autocast: See :class:`TextModel`.
        hook_name: The SAE's by default.
        token_filter: The SAE's by default.
        on_progress: Called with (doses done, doses in all).

    Raises:
        ConfigError: before anything runs, if a number, token set, prompt or hook cannot be used.
    """
    magnitudes = tuple(sorted(strengths))
    _check(magnitudes, budget, samples, max_new_tokens, interventions)
    require_all_heads(sae, "steering")
    hook = hook_name or sae.cfg.metadata.hook_name
    find_place(model, hook)
    token_filter = token_filter or steering_filter(model, sae)
    text_model = TextModel(
        model, tokenizer, chat=part.chat, prepend_bos=sae.cfg.metadata.prepend_bos, autocast=autocast
    )
    prompts = split_prompts(part.prompts, seed=seed)
    meter = DoseMeter(
        text_model,
        LogOdds(text_model, sae, part, prompts.test, hook_name=str(hook), token_filter=token_filter),
        part.scorer,
        neutral_texts=neutral_texts,
        samples=samples,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
    )
    total = 1 + sum(2 * len(magnitudes) + (3 if i.operator == "clamp" else 2) for i in interventions)
    done = 0

    def measure(intervention: Intervention | None, strength: float = 0.0) -> Dose:
        nonlocal done
        found = meter.measure(intervention, strength)
        done += 1
        if on_progress is not None:
            on_progress(done, total)
        return found

    def curve(intervention: Intervention) -> DoseCurve:
        # to clamp to 0 is to ablate; to add 0 is to do nothing
        start = measure(intervention, 0.0) if intervention.operator == "clamp" else baseline
        minus = [measure(intervention, -strength) for strength in reversed(magnitudes)]
        plus = [measure(intervention, strength) for strength in magnitudes]
        return DoseCurve(intervention.name, (*minus, start, *plus))

    def matched(intervention: Intervention, doses: Sequence[Dose], sign: int) -> MatchedStrength:
        def cost_at(strength: float) -> float:
            return float(np.subtract(meter.neutral_nll(intervention, sign * strength), baseline.neutral_nll).mean())

        return matched_strength(baseline, [dose for dose in doses if dose.strength * sign >= 0], budget, cost_at)

    baseline = measure(None)
    curves, summaries = [], []
    for intervention in interventions:
        found = curve(intervention)
        towards_a, towards_b = (matched(intervention, found.doses, sign) for sign in (-1, 1))
        summaries.append(
            summarise(
                intervention.name,
                baseline,
                found.doses,
                (measure(intervention, -towards_a.strength), measure(intervention, towards_b.strength)),
                (towards_a.reached, towards_b.reached),
                budget=budget,
                seed=seed,
            )
        )
        curves.append(found)
    protocol = DoseProtocol(
        prompts=prompts,
        strengths=magnitudes,
        budget=budget,
        samples=samples,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        neutral_texts=len(neutral_texts),
        hook_name=str(hook),
        token_filter=token_filter,
        autocast=autocast,
        latent_chosen_by=latent_chosen_by,
        strength_chosen_by=f"neutral cost of {budget:g} nats per token, searched for between the doses",
    )
    return DoseResponse(protocol, tuple(interventions), baseline, tuple(curves), tuple(summaries))


def _check(
    strengths: tuple[float, ...],
    budget: float,
    samples: int,
    max_new_tokens: int,
    interventions: Sequence[Intervention],
) -> None:
    if not strengths or not all(0 < s < float("inf") for s in strengths) or len(set(strengths)) < len(strengths):
        raise ConfigError(f"strengths={strengths} must be different numbers above 0; each is tried with both signs.")
    if not 0 < budget < float("inf"):
        raise ConfigError(f"budget={budget} must be above 0: it is a rise of the NLL in nats per token.")
    if samples < 1 or max_new_tokens < 1:
        raise ConfigError(f"samples={samples} and max_new_tokens={max_new_tokens} must be at least 1.")
    names = [intervention.name for intervention in interventions]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"interventions must have different names, and be at least one; got {names}.")
