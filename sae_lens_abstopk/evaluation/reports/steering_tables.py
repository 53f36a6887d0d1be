"""Tables of steering: both directions at matched cost, symmetry, and the effect on generated text."""

from collections.abc import Callable, Iterator
from statistics import fmean

from sae_lens_abstopk.evaluation.reports.report_table import ReportTable, mean_and_range, number
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


def steering_table(merged: MergedResults) -> ReportTable:
    """Make a table of effects at matched cost by task, SAE and intervention; random directions share a row."""
    return ReportTable(
        title="Steering at matched cost",
        columns=(
            *("task", "SAE", "by", "strength A / B", "log-odds to A", "log-odds to B"),
            *("cost A / B", "symmetry"),
        ),
        rows=tuple(
            (
                *labels,
                " / ".join(map(_strength, _directions(found))),
                *(_intervals(effects, lambda effect: effect.log_odds) for effects in _directions(found)),
                _costs(found, lambda effect: effect.neutral_cost),
                _shown(
                    [each.symmetry for each in found], [effect for effects in _directions(found) for effect in effects]
                ),
            )
            for labels, found in _rows(merged)
        ),
        note=f"On test prompts {_protocol(merged)}. unmatched: the largest strength tried, as none costs so much, or "
        "0, as a clamp there costs more already; † marks what was measured at such a strength. log-odds to A, B: "
        "rise of the log-odds of that pole's tokens. cost: rise of the steered model's NLL of neutral text, nats a "
        "token. symmetry: min / max of the two effects, 0 where both push to one pole. 95 % intervals resample "
        "prompts; of random directions the mean and the range.",
        labels=3,
    )


def scores_table(merged: MergedResults) -> ReportTable:
    """Make a table of the same strengths' effect on generated text, and the areas under the curves."""
    return ReportTable(
        title="Generated text at these strengths, and areas",
        columns=(
            *("task", "SAE", "by", "score to A", "score to B", "generated cost A / B"),
            *("area to A", "area to B"),
        ),
        rows=tuple(
            (
                *labels,
                *(_intervals(effects, lambda effect: effect.score) for effects in _directions(found)),
                _costs(found, lambda effect: effect.generated_cost),
                *(_intervals(effects, lambda effect: effect.log_odds_area) for effects in _directions(found)),
            )
            for labels, found in _rows(merged)
        ),
        note="score: change of the task's score of generated text, towards the pole. generated cost: rise of the "
        f"unsteered model's NLL of that text, nats per token. {_samples(merged)}† marks what was measured at an "
        "unmatched strength. area: mean rise of the log-odds over costs from 0 to the budget.",
        labels=3,
    )


def behaviour_table(merged: MergedResults) -> ReportTable:
    """Make a table of refusals and multiple choice by task, SAE, intervention and direction."""
    rows = []
    for task in merged.tasks:
        for sae, record in task.steering.items():
            for name, found in record.behaviour.items():
                poles = [f"to {pole}" for pole in task.record.poles] if len(found) == 2 else ["-"]
                for pole, each in zip(poles, found, strict=True):
                    shares = (each.refused_harmful, each.refused_harmless)
                    choices = (each.multiple_choice, each.multiple_choice_change)
                    cells = ("-" if cell is None else str(cell) for cell in (*shares, *choices))
                    strength = f"{each.strength:+.2f}{'' if each.reached else UNMATCHED}"
                    rows.append((task.name, sae, _of_record(name, record), pole, strength, *cells))
    return ReportTable(
        title="What the model does at these strengths",
        columns=(
            *("task", "SAE", "by", "direction", "strength"),
            *("refuses harmful", "refuses harmless", "multiple choice", "change"),
        ),
        rows=tuple(rows),
        note="Shares of instructions from test texts that are refused (greedy answers, judged by the published list "
        "of phrases, arXiv 2406.11717) and of general-knowledge questions answered correctly by the model as lm_eval "
        "steers it, at every position. change: that share minus the unsteered model's, on the same questions. 95 % "
        f"intervals{_units(merged)}. Strengths cost the same on neutral text, but for those that are unmatched.",
        labels=4,
    )


def _of_record(intervention: str, record: SteeringRecord) -> str:
    return f"{shown_name(intervention)}{f' {record.latent}' if intervention in OF_A_LATENT else ''}"


def _rows(merged: MergedResults) -> Iterator[tuple[tuple[str, str, str], list[InterventionRecord]]]:
    for task in merged.tasks:
        for sae, record in task.steering.items():
            compared, random = record.split_random()
            for name, found in compared.items():
                yield (task.name, sae, _of_record(name, record)), [found]
            if random:
                yield (task.name, sae, f"{len(random)} random"), list(random.values())


def _directions(found: list[InterventionRecord]) -> tuple[list[PoleEffectRecord], list[PoleEffectRecord]]:
    return [each.towards_a for each in found], [each.towards_b for each in found]


def _intervals(effects: list[PoleEffectRecord], value: Callable[[PoleEffectRecord], Interval | None]) -> str:
    return _shown([value(effect) for effect in effects], effects)


def _shown(found: list[Interval | None], effects: list[PoleEffectRecord]) -> str:
    """Format the interval of one, or mean and range of several; mark effects at an unmatched strength."""
    one = found[0] if len(found) == 1 else None
    shown = str(one) if one else mean_and_range([each and each.value for each in found])
    return shown if shown == "-" or all(effect.reached for effect in effects) else shown + DAGGER


def _costs(interventions: list[InterventionRecord], value: Callable[[PoleEffectRecord], Interval]) -> str:
    """Format the mean towards A and towards B, without intervals."""
    costs = [[value(effect).value for effect in found] for found in _directions(interventions)]
    return " / ".join(number(None if None in found else fmean(cost or 0.0 for cost in found)) for found in costs)


def _strength(effects: list[PoleEffectRecord]) -> str:
    mean = fmean(effect.strength for effect in effects)
    return f"{mean:+.2f}{'' if all(effect.reached for effect in effects) else UNMATCHED}"


def _records(merged: MergedResults) -> list[SteeringRecord]:
    return [record for task in merged.tasks for record in task.steering.values()]


def _samples(merged: MergedResults) -> str:
    counts = sorted({record.samples for record in _records(merged)})
    return f"{' or '.join(map(str, counts))} texts a prompt. " if counts else ""


def _units(merged: MergedResults) -> str:
    """Name the units that intervals of behaviour resample."""
    found = [each for record in _records(merged) for behaviour in record.behaviour.values() for each in behaviour]
    groups = sorted({share.n_units for each in found for share in (each.refused_harmful, each.refused_harmless)})
    questions = sorted({each.multiple_choice.n_units for each in found if each.multiple_choice})
    of = [f"{' or '.join(map(str, groups))} groups of instructions"] if groups else []
    of += [f"{' or '.join(map(str, questions))} questions"] if questions else []
    return f" resample {' and '.join(of)}" if of else ""


def _protocol(merged: MergedResults) -> str:
    records = _records(merged)
    strengths = "; or ".join(dict.fromkeys(record.strength_chosen_by for record in records))
    latents = "; or ".join(dict.fromkeys(record.latent_chosen_by for record in records))
    prompts = sorted({record.prompts[1] for record in records})
    counts = f"({prompts[0]}" + (f" to {prompts[-1]}" if len(prompts) > 1 else "") + " a task) " if prompts else ""
    return f"{counts}at the strengths chosen by: {strengths}; latents chosen by: {latents}"
