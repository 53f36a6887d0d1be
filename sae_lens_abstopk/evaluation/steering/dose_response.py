"""Dose-response of steering: effect against cost in both directions, strengths matched at equal cost and reported on test."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import numpy as np
from sae_lens import SAE
from torch import nn

from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.evaluation.passes.generation import TextModel
from sae_lens_abstopk.evaluation.passes.hook_places import find_place, require_all_heads
from sae_lens_abstopk.evaluation.passes.token_filter import TokenFilter
from sae_lens_abstopk.evaluation.steering.doses import Dose, DoseCurve, DoseMeter, SteeringPartLike
from sae_lens_abstopk.evaluation.steering.interventions import Intervention
from sae_lens_abstopk.evaluation.steering.steer import steering_filter
from sae_lens_abstopk.evaluation.steering.steering_summary import (
    CostKind,
    InterventionSummary,
    MatchedStrength,
    matched_strength,
    summarise,
)
from sae_lens_abstopk.evaluation.tasks.neutral_text import NEUTRAL_TEXTS

STRENGTHS = (0.5, 1.0, 2.0, 4.0)


class PromptSplit(NamedTuple):
    """Prompts to choose on, and prompts to report on."""

    val: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class DoseProtocol:
    """How a dose-response was measured, and how what was chosen was chosen."""

    prompts: PromptSplit
    """What has to be chosen on prompts was chosen on ``val``; the summaries are of ``test``."""
    strengths: tuple[float, ...]
    """Tried in both directions."""
    cost: CostKind
    """The cost that strengths are matched at."""
    budget: float
    """Nats a token of that cost."""
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
    """What :func:`dose_response` measured."""

    protocol: DoseProtocol
    interventions: tuple[Intervention, ...]
    baseline: tuple[Dose, Dose]
    """The unsteered model on val and on test prompts."""
    val: tuple[DoseCurve, ...]
    test: tuple[DoseCurve, ...]
    summaries: tuple[InterventionSummary, ...]
    """On test prompts, in the order of the interventions."""

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
            f"{len(prompts)} prompts: at least 4 are needed, all different; half choose strengths, half give the results."
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
    part: SteeringPartLike,
    interventions: Sequence[Intervention],
    *,
    latent_chosen_by: str,
    tokenizer: Any = None,
    strengths: Sequence[float] = STRENGTHS,
    cost: CostKind = "neutral",
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

    The strength of each intervention and direction is found at which the cost reaches the budget: that of neutral text is
    searched for between two of ``strengths``, that of generated text interpolated on val prompts. The effect is measured
    there on test prompts, beside all of ``strengths``. Nothing that a summary says was chosen on test prompts.

    Args:
        model: As for :func:`steer`.
        sae: The SAE.
        part: Prompts, token sets and scorer of the concept: ``task.steering``.
        interventions: See :func:`equal_norm_interventions`.
        latent_chosen_by: How the latent was chosen, in words; recorded.
        tokenizer: By default the model's own.
        strengths: Magnitudes, in units of each intervention's scale.
        cost: What strengths are matched at. ``neutral``: rise of the steered model's NLL of neutral text; ``generated``:
            rise of the unsteered model's NLL of generated text, which a few samples leave noisy and which makes val
            generate too.
        budget: Nats a token; 0.1 is a perplexity 1.1 times as high.
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
    _check(magnitudes, cost, budget, samples, max_new_tokens, interventions)
    require_all_heads(sae, "steering")
    hook = hook_name or sae.cfg.metadata.hook_name
    find_place(model, hook)
    token_filter = token_filter or steering_filter(model, sae)
    text_model = TextModel(
        model, tokenizer, chat=part.chat, prepend_bos=sae.cfg.metadata.prepend_bos, autocast=autocast
    )
    prompts = split_prompts(part.prompts, seed=seed)
    val, test = (
        DoseMeter(
            text_model,
            sae,
            part,
            of_split,
            neutral_texts=neutral_texts,
            samples=samples,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
            hook_name=str(hook),
            token_filter=token_filter,
        )
        for of_split in prompts
    )
    total = 2 + sum(4 * len(magnitudes) + (4 if i.operator == "clamp" else 2) for i in interventions)
    done = 0

    def measure(meter: DoseMeter, intervention: Intervention | None, strength: float = 0.0) -> Dose:
        nonlocal done
        found = meter.measure(intervention, strength, generate=meter is test or cost == "generated")
        done += 1
        if on_progress is not None:
            on_progress(done, total)
        return found

    def curve(meter: DoseMeter, unsteered: Dose, intervention: Intervention) -> DoseCurve:
        # to clamp to 0 is to ablate; to add 0 is to do nothing
        start = measure(meter, intervention, 0.0) if intervention.operator == "clamp" else unsteered
        minus = [measure(meter, intervention, -strength) for strength in reversed(magnitudes)]
        plus = [measure(meter, intervention, strength) for strength in magnitudes]
        return DoseCurve(intervention.name, (*minus, start, *plus))

    def matched(intervention: Intervention, doses: Sequence[Dose], sign: int) -> MatchedStrength:
        def cost_at(strength: float) -> float:
            return float(np.subtract(val.neutral_nll(intervention, sign * strength), baseline[0].neutral_nll).mean())

        one_way = [dose for dose in doses if dose.strength * sign >= 0]
        return matched_strength(baseline[0], one_way, budget, cost, cost_at=cost_at if cost == "neutral" else None)

    baseline = (measure(val, None), measure(test, None))
    curves: tuple[list[DoseCurve], list[DoseCurve]] = ([], [])
    summaries = []
    for intervention in interventions:
        on_val, on_test = (curve(*of_split, intervention) for of_split in zip((val, test), baseline, strict=True))
        chosen = {sign: matched(intervention, on_val.doses, sign) for sign in (-1, 1)}
        summaries.append(
            summarise(
                intervention.name,
                baseline[1],
                on_test.doses,
                (
                    measure(test, intervention, -chosen[-1].strength),
                    measure(test, intervention, chosen[1].strength),
                ),
                (chosen[-1].reached, chosen[1].reached),
                budget=budget,
                cost=cost,
                seed=seed,
            )
        )
        curves[0].append(on_val)
        curves[1].append(on_test)
    protocol = DoseProtocol(
        prompts=prompts,
        strengths=magnitudes,
        cost=cost,
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
        strength_chosen_by=f"{cost} cost of {budget:g} nats per token, "
        + ("searched for between the doses" if cost == "neutral" else "interpolated between the doses on val prompts"),
    )
    return DoseResponse(protocol, tuple(interventions), baseline, tuple(curves[0]), tuple(curves[1]), tuple(summaries))


def _check(
    strengths: tuple[float, ...],
    cost: str,
    budget: float,
    samples: int,
    max_new_tokens: int,
    interventions: Sequence[Intervention],
) -> None:
    if not strengths or not all(0 < s < float("inf") for s in strengths) or len(set(strengths)) < len(strengths):
        raise ConfigError(f"strengths={strengths} must be different numbers above 0; each is tried with both signs.")
    if cost not in get_args(CostKind):
        raise ConfigError(f"cost={cost!r} must be one of {', '.join(get_args(CostKind))}.")
    if not 0 < budget < float("inf"):
        raise ConfigError(f"budget={budget} must be above 0: it is a rise of the NLL in nats per token.")
    if samples < 1 or max_new_tokens < 1:
        raise ConfigError(f"samples={samples} and max_new_tokens={max_new_tokens} must be at least 1.")
    names = [intervention.name for intervention in interventions]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"interventions must have different names, and be at least one; got {names}.")
