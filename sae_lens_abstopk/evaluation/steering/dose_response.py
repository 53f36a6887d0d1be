"""Dose-response of steering: effect against cost in both directions, with strengths matched at equal cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

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
from sae_lens_abstopk.saes.heads import require_all_heads
from sae_lens_abstopk.system.errors import ConfigError


class PromptSplit(NamedTuple):
    """Prompts to choose the latent on, and prompts to report on."""

    val: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class DoseProtocol:
    """How a dose-response was measured."""

    prompts: PromptSplit
    """The latent is chosen on ``val``; all results are from ``test``."""
    options: DoseOptions
    seed: int

    @property
    def strength_chosen_by(self) -> str:
        """The rule for the matched strength, in words."""
        return f"neutral cost of {self.options.budget:g} nats per token, searched for between the doses"


@dataclass(frozen=True)
class DoseResponse:
    """Result of :func:`dose_response`, on test prompts."""

    protocol: DoseProtocol
    baseline: Dose
    """The unsteered model."""
    interventions: tuple[Intervention, ...]
    doses: dict[str, list[Dose]]
    """By intervention and rising strength, with the numbers of each prompt."""
    records: dict[str, InterventionRecord]
    """Means, effects and symmetry, by intervention."""

    def summary(self, intervention: str) -> InterventionRecord:
        """The record of the intervention of this name; KeyError if there is none."""
        return self.records[intervention]


def split_prompts(prompts: Sequence[str], *, seed: int = 0) -> PromptSplit:
    """
    Split prompts into halves to choose and to report on, drawn with ``seed``.

    Raises:
        ConfigError: fewer than four prompts, or one occurs twice.
    """
    if len(prompts) < 4 or len(set(prompts)) < len(prompts):
        raise ConfigError(f"{len(prompts)} prompts: at least 4 are needed, all different, to split into two halves.")
    val = set(np.random.default_rng(seed).permutation(len(prompts))[: len(prompts) // 2].tolist())
    return PromptSplit(
        val=tuple(prompt for i, prompt in enumerate(prompts) if i in val),
        test=tuple(prompt for i, prompt in enumerate(prompts) if i not in val),
    )


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
        model: As for :func:`steer`.
        sae: The SAE.
        part: Prompts, token sets and scorer of the concept: ``task.steering``.
        interventions: See :func:`equal_norm_interventions`; their names must differ.
        options: Strengths, budget and how much is generated.
        tokenizer: By default the model's own.
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
    prompts = split_prompts(part.prompts, seed=seed)
    total = 1 + sum(2 * len(options.strengths) + (3 if i.operator == "clamp" else 2) for i in interventions)
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
    protocol, baseline = DoseProtocol(prompts, options, seed), meter.measure(None)
    doses: dict[str, list[Dose]] = {}
    records: dict[str, InterventionRecord] = {}
    for each in interventions:
        doses[each.name], records[each.name] = _doses_and_record(meter, protocol, baseline, each)
    return DoseResponse(protocol, baseline, tuple(interventions), doses, records)


def _doses_and_record(
    meter: DoseMeter, protocol: DoseProtocol, baseline: Dose, intervention: Intervention
) -> tuple[list[Dose], InterventionRecord]:
    """Measure ``intervention`` at all strengths, and at those whose neutral cost is the budget."""
    strengths, budget = sorted(protocol.options.strengths), protocol.options.budget
    # to clamp to 0 is to ablate; to add 0 is to do nothing
    start = meter.measure(intervention) if intervention.operator == "clamp" else baseline
    minus = [meter.measure(intervention, -strength) for strength in reversed(strengths)]
    doses = [*minus, start, *(meter.measure(intervention, strength) for strength in strengths)]

    def matched(sign: int) -> tuple[Dose, bool]:
        def cost_at(strength: float) -> float:
            nll = meter.neutral_nll(intervention, sign * strength)
            return float(np.subtract(nll, baseline.neutral_nll).mean())

        found = matched_strength(baseline, [dose for dose in doses if dose.strength * sign >= 0], budget, cost_at)
        return meter.measure(intervention, sign * found.strength), found.reached

    return doses, summarise(baseline, doses, (matched(-1), matched(1)), budget=budget, seed=protocol.seed)
