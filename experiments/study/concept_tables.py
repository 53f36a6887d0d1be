"""Tables of single concepts as Markdown: the latents that probing chose for them, and what steering with these does."""

from collections.abc import Callable, Mapping, Sequence
from math import isnan
from statistics import mean
from typing import Any

from experiments.study.columns import Line, best_density, by_variant, steered_lines, value, what_steered, with_doses
from experiments.study.random_directions import MATCHED
from sae_lens_abstopk.evaluation.results.bootstrap import mean_estimate

CONCEPT_PAIRS = (("abstopk", "topk"), ("batch_abstopk", "batchtopk"), ("mixed_32nd", "batchtopk"))
SAME_CONCEPT = {
    "public/sst2": "sentiment",
    "public/moods": "sentiment",
    "public/ud_tense": "tense",
    "public/ud_number": "number",
    "public/english_french": "language",
    "public/winogender": "gender",
    "public/facts": "truth",
}
"""Public sets of what a shipped task is about: one concept, so that they are resampled together."""


def task_table(lines: Sequence[Line], study: Mapping[str, Any]) -> str:
    """AUROC of one latent, its pole coverage, and the best there is with its density, by task, at the main place."""
    found = by_variant(lines, **study["main"])
    shown = [name for name in ("mixed_32nd", "abstopk", "batch_abstopk", "batchtopk", "topk") if name in found]
    if not shown:
        return "Nothing is recorded yet."
    rows = [f"| task | difference in means | {' | '.join(shown)} |", "|---" * (2 + len(shown)) + "|"]
    for task in found[shown[0]][0]["tasks"]:
        cells = []
        for variant in shown:
            tasks = [line["tasks"][task] for line in found[variant] if task in line["tasks"]]
            one = mean(value(found_task["auroc"]["single latent"]) for found_task in tasks)
            covered, best = (
                mean(value(found_task[which]) for found_task in tasks) for which in ("coverage", "best_coverage")
            )
            densities = [share for share in map(best_density, tasks) if not isnan(share)]
            told = f" ({mean(densities):.0%})" if densities else ""
            cells.append(f"{one:.3f}, {covered:.2f}, {best:.2f}{told}")
        dense = value(found[shown[0]][0]["tasks"][task]["auroc"]["difference in means"])
        rows.append(f"| {task} | {dense:.3f} | {' | '.join(cells)} |")
    return "\n".join(rows)


def paired_concepts_table(lines: Sequence[Line], controls: Sequence[Line], study: Mapping[str, Any]) -> str:
    """
    By how much one SAE probes better than another, mean over the tasks with a 95 % interval that resamples concepts.

    Of each SAE a task has the mean of its seeds. ``controls`` are recorded SAEs with fresh weights (random_directions.py). Best coverage is compared with
    these alone: without a sign it is at most 0.5.
    """
    found = by_variant(lines, **study["main"])
    rows = ["| difference | tasks | one latent | 5-sparse | best coverage |", "|---|---|---|---|---|"]

    def row(what: str, *measured: tuple[Mapping[str, float], Mapping[str, float]] | None) -> None:
        cells, n_tasks = [], 0
        for pair in measured:
            if pair is None:
                cells.append("-")
                continue
            ours, theirs = pair
            tasks = [task for task in ours if task in theirs]
            told = mean_estimate(
                [ours[task] - theirs[task] for task in tasks], groups=[SAME_CONCEPT.get(task, task) for task in tasks]
            )
            cells.append(f"{told.value:+.3f}" + ("" if told.low is None else f" [{told.low:+.3f}, {told.high:+.3f}]"))
            n_tasks = len(tasks)
        rows.append(f"| {what} | {n_tasks} | {' | '.join(cells)} |")

    for one, other in CONCEPT_PAIRS:
        if one in found and other in found:
            both = [
                (_by_task(found[one], of), _by_task(found[other], of))
                for of in (_auroc("single latent"), _auroc("5-sparse"))
            ]
            row(f"{one} - {other}", *both, None)
    first = [line for line in found.get("abstopk", []) if line["seed"] == 0]
    # None: of controls that were recorded before they noted their SAE, which may be any
    weights = {None, *(line["sae"].get("weights_sha256") for line in first if "sae" in line)}
    matched = [line for line in controls if line["name"].startswith(MATCHED) and line.get("trained_sha256") in weights]
    if first and matched:
        ours = _by_task(first, lambda task: value(task["best_coverage"]))
        theirs = {
            task: mean(value(line["best_coverage"][task]) for line in matched) for task in matched[0]["best_coverage"]
        }
        row("abstopk, seed 0 - density-matched control", None, None, (ours, theirs))
        others = {task: covered for task, covered in ours.items() if SAME_CONCEPT.get(task, task) != "tense"}
        row("the same, without tense", None, None, (others, theirs))
    return "\n".join(rows) if len(rows) > 2 else "Nothing is recorded yet."


def _auroc(method: str) -> Callable[[Mapping[str, Any]], float]:
    return lambda task: value(task["auroc"][method])


def _by_task(lines: Sequence[Line], of: Callable[[Mapping[str, Any]], float]) -> dict[str, float]:
    """The mean of the runs, by task that all of them have."""
    return {
        task: mean(of(line["tasks"][task]) for line in lines)
        for task in lines[0]["tasks"]
        if all(task in line["tasks"] for line in lines)
    }


def steering_table(lines: Sequence[Line], study: Mapping[str, Any]) -> str:
    """Effects at matched cost, both directions added up, concept by concept."""
    steered = steered_lines(lines, study)
    if not steered:
        return "Nothing is recorded yet."
    tasks = list(steered[0]["steering"])
    rows = [f"| steered with | {' | '.join(tasks)} |", "|---" * (1 + len(tasks)) + "|"]

    def effect(line: Line, task: str, way: str) -> str:
        one = line["steering"][task]["interventions"][way]
        sides = [one[side]["log_odds"]["value"] for side in ("towards_a", "towards_b")]
        return "-" if None in sides else f"{sum(sides):.2f}"

    for told, line, way in what_steered(steered):
        rows.append(f"| {told} | {' | '.join(effect(line, task, way) for task in tasks)} |")
    return "\n".join([*rows, "", "![Effect of steering at matched cost](pictures/evidence-steering.svg)"])


def dose_table(lines: Sequence[Line], study: Mapping[str, Any]) -> str:
    """Change of the log-odds at each strength, and in brackets the rise of the loss on neutral text, concept by concept."""
    steered = with_doses(steered_lines(lines, study))
    parts = []
    for task in steered[0]["steering"] if steered else ():
        rows = []
        for line in steered:
            for way, one in line["steering"][task]["interventions"].items():
                if way != "clamp":
                    if not rows:
                        strengths = [f"{strength:+g}" for strength, _, _ in one["doses"] if strength]
                        rows = [f"| steered with | {' | '.join(strengths)} |", "|---" * (1 + len(strengths)) + "|"]
                    told = f"latent of {line['variant']}" if way == "latent" else f"{way.replace('_', ' ')}, as long"
                    cells = (
                        "-" if None in (change, cost) else f"{change:+.2f} ({cost:.2f})"
                        for strength, change, cost in one["doses"]
                        if strength
                    )
                    rows.append(f"| {told} | {' | '.join(cells)} |")
        parts.append("\n".join([f"**{task}**", "", *rows]))
    return "\n\n".join(parts) or "Nothing is recorded yet."


def behaviour_table(lines: Sequence[Line], study: Mapping[str, Any]) -> str:
    """What steering refusal does to refusals and to general knowledge: share, with its 95 % interval."""
    measures = {
        "refused_harmful": "harmful refused",
        "refused_harmless": "harmless refused",
        "multiple_choice": "multiple choice correct",
    }
    rows = [f"| steered with | strength | {' | '.join(measures.values())} |", "|---" * (2 + len(measures)) + "|"]
    found: dict[str, list[Any]] = {}
    for line in steered_lines(lines, study):
        for way, doses in line["steering"].get("refusal", {}).get("behaviour", {}).items():
            # what needs no latent is much the same beside every SAE
            found.setdefault(f"latent of {line['variant']}" if way == "latent" else way.replace("_", " "), doses)
    for told, doses in found.items():
        for dose in doses:
            shares = (dose[measure] for measure in measures)
            rows.append(f"| {told} | {dose['strength']:+.2f} | {' | '.join(map(_share, shares))} |")
    return "\n".join(rows) if len(rows) > 2 else "Nothing is recorded yet."


def _share(share: Mapping[str, float | None]) -> str:
    """With its interval, unless all resamples agree."""
    value, low, high = (share[key] for key in ("value", "low", "high"))
    return f"{value:.2f}" if low is None or low == high else f"{value:.2f} ({low:.2f} to {high:.2f})"
