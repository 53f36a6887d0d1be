"""Dose-response of steering: effect against cost in both directions, strengths matched at equal cost and reported on test."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sae_lens import SAE
from torch import nn

from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.evaluation.steering.doses import Dose, DoseCurve, DoseMeter, LogOdds
from sae_lens_abstopk.evaluation.steering.interventions import Intervention
from sae_lens_abstopk.evaluation.steering.steer import steering_filter
from sae_lens_abstopk.evaluation.steering.steering_summary import (
    InterventionSummary,
    matched_strength,
    summarise,
)
from sae_lens_abstopk.evaluation.suite import DoseOptions
from sae_lens_abstopk.evaluation.tasks.task import SteeringPart
from sae_lens_abstopk.model.generation import TextModel
from sae_lens_abstopk.model.hook_places import find_place
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.saes.heads import require_all_heads


class PromptSplit(NamedTuple):
    """Prompts to choose the latent on, and prompts to report on."""

    val: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class DoseProtocol:
    """How a dose-response was measured, and how what was chosen was chosen."""

    prompts: PromptSplit
    """The latent is chosen on ``val``; everything here was measured on ``test``."""
    options: DoseOptions
    seed: int
    latent_chosen_by: str
    """In words: on which data, by which criterion."""

    @property
    def strength_chosen_by(self) -> str:
        """In words."""
        return f"neutral cost of {self.options.budget:g} nats per token, searched for between the doses"


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
    options: DoseOptions | None = None,
    tokenizer: Any = None,
    seed: int = 0,
    autocast: bool = False,
    token_filter: TokenFilter | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> DoseResponse:
    """
    Measure ``interventions`` at each of ``options.strengths``, in units of their scales, in both directions.

    The strength of each intervention and direction is searched for, between two of these strengths, at which neutral
    text costs the budget, and the effect is measured there too. All prompts are the test half of the split, and nothing
    is chosen by what the model says to them: the neutral texts belong to no prompt.

    Args:
        model: As for :func:`steer`.
        sae: The SAE.
        part: Prompts, token sets and scorer of the concept: ``task.steering``.
        interventions: See :func:`equal_norm_interventions`.
        latent_chosen_by: How the latent was chosen, in words; recorded.
        options: Strengths, budget and how much is generated.
        tokenizer: By default the model's own.
        seed: Of the split of the prompts, the sampling and the bootstrap.
        autocast: See :class:`TextModel`.
        token_filter: The SAE's by default.
        on_progress: Called with (doses done, doses in all).

    Raises:
        ConfigError: before anything runs, if the interventions, a token set, a prompt or the hook cannot be used.
    """
    names = [intervention.name for intervention in interventions]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"interventions must have different names, and be at least one; got {names}.")
    require_all_heads(sae, "steering")
    find_place(model, sae.cfg.metadata.hook_name)
    options = options or DoseOptions()
    prompts = split_prompts(part.prompts, seed=seed)
    text_model = TextModel(
        model, tokenizer, chat=part.chat, prepend_bos=sae.cfg.metadata.prepend_bos, autocast=autocast
    )
    log_odds = LogOdds(text_model, sae, part, prompts.test, token_filter=token_filter or steering_filter(model, sae))
    total = 1 + sum(2 * len(options.strengths) + (3 if i.operator == "clamp" else 2) for i in interventions)
    done = itertools.count(1)
    sweep = _Sweep(
        DoseMeter(text_model, log_odds, part.scorer, options, seed=seed),
        options,
        on_dose=lambda: on_progress(next(done), total) if on_progress else None,
    )
    curves = tuple(map(sweep.curve, interventions))
    summaries = tuple(
        sweep.summary(intervention, curve, seed=seed) for intervention, curve in zip(interventions, curves, strict=True)
    )
    protocol = DoseProtocol(prompts, options, seed, latent_chosen_by)
    return DoseResponse(protocol, tuple(interventions), sweep.baseline, curves, summaries)


class _Sweep:
    """Doses of interventions, with those at which the neutral cost is the budget."""

    def __init__(self, meter: DoseMeter, options: DoseOptions, *, on_dose: Callable[[], None]) -> None:
        self._meter, self._options, self._on_dose = meter, options, on_dose
        self.baseline = self._measure(None)

    def curve(self, intervention: Intervention) -> DoseCurve:
        strengths = sorted(self._options.strengths)
        # to clamp to 0 is to ablate; to add 0 is to do nothing
        start = self._measure(intervention) if intervention.operator == "clamp" else self.baseline
        minus = [self._measure(intervention, -strength) for strength in reversed(strengths)]
        plus = [self._measure(intervention, strength) for strength in strengths]
        return DoseCurve(intervention.name, (*minus, start, *plus))

    def summary(self, intervention: Intervention, curve: DoseCurve, *, seed: int) -> InterventionSummary:
        (towards_a, reached_a), (towards_b, reached_b) = (self._matched(intervention, curve, s) for s in (-1, 1))
        return summarise(
            intervention.name,
            self.baseline,
            curve.doses,
            (towards_a, towards_b),
            (reached_a, reached_b),
            budget=self._options.budget,
            seed=seed,
        )

    def _measure(self, intervention: Intervention | None, strength: float = 0.0) -> Dose:
        found = self._meter.measure(intervention, strength)
        self._on_dose()
        return found

    def _matched(self, intervention: Intervention, curve: DoseCurve, sign: int) -> tuple[Dose, bool]:
        """The dose at the matched strength, and whether its cost is the budget."""

        def cost_at(strength: float) -> float:
            nll = self._meter.neutral_nll(intervention, sign * strength)
            return float(np.subtract(nll, self.baseline.neutral_nll).mean())

        doses = [dose for dose in curve.doses if dose.strength * sign >= 0]
        found = matched_strength(self.baseline, doses, self._options.budget, cost_at)
        return self._measure(intervention, sign * found.strength), found.reached
