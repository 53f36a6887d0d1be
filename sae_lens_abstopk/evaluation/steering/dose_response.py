"""Choose the latent that steers a concept on half of its prompts; measure effect against cost on the other half."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal, NamedTuple

import numpy as np
from sae_lens import SAE
from torch import nn

from sae_lens_abstopk.evaluation.results.records import InterventionRecord
from sae_lens_abstopk.evaluation.steering.doses import Dose, DoseMeter, DoseOptions
from sae_lens_abstopk.evaluation.steering.interventions import Intervention
from sae_lens_abstopk.evaluation.steering.steering_summary import matched_strength, summarise
from sae_lens_abstopk.evaluation.tasks.task import TaskSteering
from sae_lens_abstopk.model.hook_places import find_place
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.saes.loading import require_all_heads
from sae_lens_abstopk.system.errors import ConfigError


class PromptSplit(NamedTuple):
    """Prompts to choose the latent on, and prompts to report on."""

    val: tuple[str, ...]
    test: tuple[str, ...]


def split_prompts(prompts: Sequence[str], *, seed: int = 0) -> PromptSplit:
    """Split prompts, all different, into halves drawn with ``seed``."""
    order: list[int] = np.random.default_rng(seed).permutation(len(prompts)).tolist()
    half = len(prompts) // 2
    val, test = (tuple(prompts[i] for i in sorted(rows)) for rows in (order[:half], order[half:]))
    return PromptSplit(val, test)


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
    ``scales`` gives s of a latent, such as :class:`LatentScales`; other arguments are those of :func:`dose_response`.

    Raises:
        ConfigError: a candidate has no scale, or none gives finite log-odds.
    """
    prompts = split_prompts(part.prompts, seed=seed).val
    meter = DoseMeter(model, sae, part, prompts, tokenizer=tokenizer, autocast=autocast, token_filter=token_filter)
    effects: dict[int, float] = {}
    for latent in candidates:
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
    orientation = 1 if effects[best] >= 0 else -1
    return LatentChoice(best, orientation, scales(best), tuple(effects), tuple(effects.values()))


@dataclass(frozen=True)
class DoseResponse:
    """Result of :func:`dose_response`, on test prompts."""

    prompts: PromptSplit
    options: DoseOptions
    baseline: Dose
    """The unsteered model."""
    interventions: tuple[Intervention, ...]
    doses: dict[str, list[Dose]]
    """By intervention and rising strength, with the numbers of each prompt."""
    records: dict[str, InterventionRecord]
    """Means, effects and symmetry, by intervention."""


def dose_response(
    model: nn.Module,
    sae: SAE[Any],
    part: TaskSteering,
    interventions: Sequence[Intervention],
    *,
    options: DoseOptions | None = None,
    tokenizer: Any = None,
    seed: int = 0,
    autocast: bool = False,
    token_filter: TokenFilter | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> DoseResponse:
    """
    Measure ``interventions`` at each of ``options.strengths``, in units of their scales, in both directions.

    It also finds and measures, for each intervention and direction, the strength at which neutral text costs
    the budget. Prompts are the test half of the split; nothing is chosen by the model's answers to them.

    Args:
        part: Prompts, token sets and scorer of the concept: ``task.steering``.
        interventions: See :func:`equal_norm_interventions`; their names must differ.
        options: Strengths, budget and how much is generated.
        seed: Of the split of the prompts, the sampling and the bootstrap.
        autocast: See :class:`TextModel`.
        token_filter: Tokens to steer; the SAE's by default.
        on_progress: Called with (doses done, total doses).

    Raises:
        ConfigError: before anything runs, if the SAE, a token set, a prompt or the hook cannot be used.
    """
    require_all_heads(sae, "steering")
    find_place(model, sae.cfg.metadata.hook_name)
    options = options or DoseOptions()
    strengths, budget, prompts = sorted(set(options.strengths)), options.budget, split_prompts(part.prompts, seed=seed)
    total = 1 + sum(2 * len(strengths) + (3 if i.operator == "clamp" else 2) for i in interventions)
    done = count(1)
    meter = DoseMeter(
        model,
        sae,
        part,
        prompts.test,
        options,
        tokenizer=tokenizer,
        seed=seed,
        autocast=autocast,
        token_filter=token_filter,
        on_dose=lambda: on_progress(next(done), total) if on_progress else None,
    )
    baseline = meter.measure(None)

    def at_budget(intervention: Intervention, measured: Sequence[Dose], sign: int) -> tuple[Dose, bool]:
        def cost_at(strength: float) -> float:
            nll = meter.neutral_nll(intervention, sign * strength)
            return float(np.subtract(nll, baseline.neutral_nll).mean())

        one_side = [dose for dose in measured if dose.strength * sign >= 0]
        strength, reached = matched_strength(baseline, one_side, budget, cost_at)
        return meter.measure(intervention, sign * strength), reached

    doses: dict[str, list[Dose]] = {}
    records: dict[str, InterventionRecord] = {}
    for each in interventions:
        # to clamp to 0 is to ablate; to add 0 is to do nothing
        start = meter.measure(each) if each.operator == "clamp" else baseline
        minus = [meter.measure(each, -strength) for strength in reversed(strengths)]
        doses[each.name] = found = [*minus, start, *(meter.measure(each, strength) for strength in strengths)]
        matched = at_budget(each, found, -1), at_budget(each, found, 1)
        records[each.name] = summarise(baseline, found, matched, budget=budget, seed=seed)
    return DoseResponse(prompts, options, baseline, tuple(interventions), doses, records)
