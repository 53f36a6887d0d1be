"""Tables of steering: both directions at matched cost, symmetry, and the effect on generated text."""

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import NamedTuple

from sae_lens_abstopk.evaluation.reports.report_table import (
    WITHOUT_INTERVAL,
    ReportTable,
    either,
    mean_and_range,
    number,
)
from sae_lens_abstopk.evaluation.results.merging import MergedResults
from sae_lens_abstopk.evaluation.results.records import (
    Interval,
    InterventionRecord,
    PoleEffectRecord,
    SteeringRecord,
    shown_name,
)

UNMATCHED, DAGGER = " (unmatched)", " †"
"""Mark of a strength that does not cost the budget, and of measurements at it."""
OF_A_LATENT = ("latent", "clamp")
"""Interventions on the record's latent."""

OVER_PROMPTS = {"[": "[ ]: 95 % bootstrap intervals that resample prompts."} | WITHOUT_INTERVAL


class _Row(NamedTuple):
    """One intervention, or all random directions, with the effects towards A and towards B."""

    labels: dict[str, str]
    found: list[InterventionRecord]

    @property
    def directions(self) -> tuple[list[PoleEffectRecord], list[PoleEffectRecord]]:
        return [each.towards_a for each in self.found], [each.towards_b for each in self.found]

    def intervals(self, name: str, value: Callable[[PoleEffectRecord], Interval | None]) -> dict[str, str]:
        """Return the cells of a quantity with its interval, towards A and towards B."""
        return {
            f"{name} to {pole}": _shown([value(effect) for effect in effects], effects)
            for pole, effects in zip("AB", self.directions, strict=True)
        }

    def costs(self, value: Callable[[PoleEffectRecord], Interval]) -> str:
        """Format the mean towards A and towards B, without intervals."""
        costs = [[value(effect).value for effect in effects] for effects in self.directions]
        return " / ".join(number(None if None in found else fmean(cost or 0.0 for cost in found)) for found in costs)


def steering_table(merged: MergedResults) -> ReportTable:
    """Make a table of effects at matched cost by task, SAE and intervention; random directions share a row."""
    rows = [
        row.labels
        | {"strength A / B": " / ".join(map(_strength, row.directions))}
        | row.intervals("log-odds", lambda effect: effect.log_odds)
        | {
            "cost A / B": row.costs(lambda effect: effect.neutral_cost),
            "symmetry": _shown([each.symmetry for each in row.found], [*row.directions[0], *row.directions[1]]),
        }
        for row in _rows(merged)
    ]
    return ReportTable(
        "Steering at matched cost",
        rows,
        f"On test prompts {_protocol(merged)}. log-odds to A, B: rise of the log-odds of that pole's tokens. cost: "
        "rise of the steered model's NLL of neutral text, nats a token. symmetry: min / max of the two effects, 0 "
        f"where both push to one pole.{_of_random(merged)}",
        labels=3,
        explained={
            UNMATCHED: "unmatched: the largest strength tried, as none costs so much, or 0, as a clamp there costs "
            "more already; † marks what was measured at such a strength."
        }
        | OVER_PROMPTS,
    )


def scores_table(merged: MergedResults) -> ReportTable:
    """Make a table of the same strengths' effect on generated text, and the areas under the curves."""
    rows = [
        row.labels
        | row.intervals("score", lambda effect: effect.score)
        | {"generated cost A / B": row.costs(lambda effect: effect.generated_cost)}
        | row.intervals("area", lambda effect: effect.log_odds_area)
        for row in _rows(merged)
    ]
    counts = either(record.samples for record in _records(merged))
    return ReportTable(
        "Generated text at these strengths, and areas",
        rows,
        "score: change of the task's score of generated text, towards the pole. generated cost: rise of the "
        f"unsteered model's NLL of that text, nats per token. {counts} texts a prompt. area: mean rise of the "
        f"log-odds over costs from 0 to the budget.{_of_random(merged)}",
        labels=3,
        explained={DAGGER: "† marks what was measured at an unmatched strength."} | OVER_PROMPTS,
    )


def behaviour_table(merged: MergedResults) -> ReportTable:
    """Make a table of refusals and multiple choice by task, SAE, intervention and direction."""
    rows: list[dict[str, str]] = []
    for task in merged.tasks:
        for sae, record in task.steering.items():
            for name, found in record.behaviour.items():
                poles = [f"to {pole}" for pole in task.record.poles] if len(found) == 2 else ["-"]
                rows += [
                    {
                        "task": task.name,
                        "SAE": sae,
                        "by": _of_record(name, record),
                        "direction": pole,
                        "strength": f"{each.strength:+.2f}{'' if each.reached else UNMATCHED}",
                        "refuses harmful": str(each.refused_harmful),
                        "refuses harmless": str(each.refused_harmless),
                        "multiple choice": str(each.multiple_choice or "-"),
                        "change": str(each.multiple_choice_change or "-"),
                    }
                    for pole, each in zip(poles, found, strict=True)
                ]
    return ReportTable(
        "What the model does at these strengths",
        rows,
        "refuses: share of instructions from test texts that are refused (greedy answers, judged by the published "
        "list of phrases, arXiv 2406.11717). Strengths cost the same on neutral text, but for those that are "
        "unmatched.",
        labels=4,
        explained={
            "multiple choice": "multiple choice: share of general-knowledge questions answered correctly by the model "
            "as lm_eval steers it, at every position.",
            "change": "change: that share minus the unsteered model's, on the same questions.",
            "[": f"[ ]: 95 % bootstrap intervals{_units(merged)}.",
        }
        | WITHOUT_INTERVAL,
    )


def _rows(merged: MergedResults) -> Iterator[_Row]:
    for task in merged.tasks:
        for sae, record in task.steering.items():
            compared, random = record.split_random()
            by = {_of_record(name, record): [found] for name, found in compared.items()}
            by |= {f"{len(random)} random": list(random.values())} if random else {}
            for name, found in by.items():
                yield _Row({"task": task.name, "SAE": sae, "by": name}, found)


def _of_record(intervention: str, record: SteeringRecord) -> str:
    return f"{shown_name(intervention)}{f' {record.latent}' if intervention in OF_A_LATENT else ''}"


def _shown(found: Sequence[Interval | None], effects: Sequence[PoleEffectRecord]) -> str:
    """Format the interval of one, or mean and range of several; mark effects at an unmatched strength."""
    one = found[0] if len(found) == 1 else None
    shown = str(one) if one else mean_and_range([each and each.value for each in found])
    return shown if shown == "-" or all(effect.reached for effect in effects) else shown + DAGGER


def _strength(effects: list[PoleEffectRecord]) -> str:
    mean = fmean(effect.strength for effect in effects)
    return f"{mean:+.2f}{'' if all(effect.reached for effect in effects) else UNMATCHED}"


def _records(merged: MergedResults) -> list[SteeringRecord]:
    return [record for task in merged.tasks for record in task.steering.values()]


def _of_random(merged: MergedResults) -> str:
    several = any(len(record.split_random()[1]) > 1 for record in _records(merged))
    return " random: mean and range of several directions." if several else ""


def _units(merged: MergedResults) -> str:
    """Name the units that intervals of behaviour resample."""
    found = [each for record in _records(merged) for behaviour in record.behaviour.values() for each in behaviour]
    groups = either(share.n_units for each in found for share in (each.refused_harmful, each.refused_harmless))
    questions = either(each.multiple_choice.n_units for each in found if each.multiple_choice)
    of_questions = f" and {questions} questions" if questions else ""
    return f" resample {groups} groups of instructions{of_questions}"


def _protocol(merged: MergedResults) -> str:
    records = _records(merged)
    strengths = "; or ".join(dict.fromkeys(record.strength_chosen_by for record in records))
    latents = "; or ".join(dict.fromkeys(record.latent_chosen_by for record in records))
    prompts = sorted({record.prompts[1] for record in records})
    counts = " to ".join(map(str, dict.fromkeys([prompts[0], prompts[-1]]))) if prompts else ""
    return f"({counts} a task) at the strengths chosen by: {strengths}; latents chosen by: {latents}"


OF_STEERING = (steering_table, scores_table, behaviour_table)
