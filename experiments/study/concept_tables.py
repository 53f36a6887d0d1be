"""Tables of the study on single concepts, as Markdown: results of probing and steering."""

import json
from collections.abc import Callable, Mapping, Sequence
from math import isnan
from statistics import mean
from typing import Any

from experiments.study.columns import Line, best_density, by_variant, spread, value
from experiments.study.runs import HERE
from experiments.study.steered import all_steered, effects, steered_lines, with_doses
from experiments.study.tables import table
from sae_lens_abstopk.evaluation.results.bootstrap import mean_estimate

CONCEPT_PAIRS = (("abstopk", "topk"), ("batch_abstopk", "batchtopk"), ("mixed_32nd", "batchtopk"))
TASK_VARIANTS = ("mixed_32nd", "abstopk", "batch_abstopk", "batchtopk", "topk")
SAME_CONCEPT = {
    "public/sst2": "sentiment",
    "public/moods": "sentiment",
    "public/ud_tense": "tense",
    "public/ud_number": "number",
    "public/english_french": "language",
    "public/winogender": "gender",
    "public/facts": "truth",
}
"""The shipped concept of each public set; both are resampled together."""
UNTRAINED = HERE / "results" / "random_directions.json"
"""Coverage of SAEs with random weights, a control by how often their latents fire."""
MATCHED = "matched"
"""Start of the names of those whose latents fire as often as AbsTopK's."""
HIGH = 0.7
"""The page counts tasks above this coverage."""
BEHAVIOUR = {
    "refused_harmful": "harmful refused",
    "refused_harmless": "harmless refused",
    "multiple_choice": "multiple choice correct",
}


def task_table(lines: Sequence[Line], study: Mapping[str, Any]) -> str:
    """Make a table by task, at the main place: AUROC and coverage of the best latent, best coverage and its density."""
    found = by_variant(lines, **study["main"])
    shown = [name for name in TASK_VARIANTS if name in found]
    rows = []
    for task in found[shown[0]][0]["tasks"] if shown else ():
        cells = []
        for variant in shown:
            tasks = [line["tasks"][task] for line in found[variant] if task in line["tasks"]]
            one = mean(value(measured["auroc"]["single latent"]) for measured in tasks)
            covered, best = (mean(value(measured[key]) for measured in tasks) for key in ("coverage", "best_coverage"))
            densities = [share for share in map(best_density, tasks) if not isnan(share)]
            density = f" ({mean(densities):.0%})" if densities else ""
            cells.append(f"{one:.3f}, {covered:.2f}, {best:.2f}{density}")
        dense = value(found[shown[0]][0]["tasks"][task]["auroc"]["difference in means"])
        rows.append((task, f"{dense:.3f}", *cells))
    return table(("task", "difference in means", *shown), rows)


def difference_table(lines: Sequence[Line], controls: Sequence[Line], study: Mapping[str, Any]) -> str:
    """
    Make a table of differences between SAEs in probing: mean over tasks, with 95 % intervals that resample concepts.

    Each task has the mean over an SAE's seeds. ``controls`` are the recorded untrained SAEs; best coverage is compared
    only with them, because it is at most 0.5 without a sign.
    """
    found = by_variant(lines, **study["main"])
    rows = []
    for one, other in CONCEPT_PAIRS:
        if one in found and other in found:
            aurocs = [_auroc("single latent"), _auroc("5-sparse")]
            pairs = [(_by_task(found[one], of), _by_task(found[other], of)) for of in aurocs]
            rows.append(_difference_row(f"{one} - {other}", *pairs, None))
    first = [line for line in found.get("abstopk", []) if line["seed"] == 0]
    # controls without a recorded SAE (None) may belong to any
    weights = {None, *(line["sae"].get("weights_sha256") for line in first if "sae" in line)}
    matched = [line for line in controls if line["name"].startswith(MATCHED) and line.get("trained_sha256") in weights]
    if first and matched:
        ours = _by_task(first, lambda task: value(task["best_coverage"]))
        theirs = {task: mean(value(line["best_coverage"][task]) for line in matched) for task in ours}
        others = {task: covered for task, covered in ours.items() if SAME_CONCEPT.get(task, task) != "tense"}
        rows.append(_difference_row("abstopk, seed 0 - density-matched control", None, None, (ours, theirs)))
        rows.append(_difference_row("the same, without tense", None, None, (others, theirs)))
    return table(("difference", "tasks", "one latent", "5-sparse", "best coverage"), rows)


def _difference_row(name: str, *measures: tuple[Mapping[str, float], Mapping[str, float]] | None) -> tuple[str, ...]:
    cells, n_tasks = [], 0
    for pair in measures:
        if pair is None:
            cells.append("-")
            continue
        ours, theirs = pair
        tasks = [task for task in ours if task in theirs]
        differences = [ours[task] - theirs[task] for task in tasks]
        found = mean_estimate(differences, groups=[SAME_CONCEPT.get(task, task) for task in tasks])
        interval = "" if found.low is None else f" [{found.low:+.3f}, {found.high:+.3f}]"
        cells.append(f"{found.value:+.3f}{interval}")
        n_tasks = len(tasks)
    return (name, str(n_tasks), *cells)


def _auroc(method: str) -> Callable[[Mapping[str, Any]], float]:
    return lambda task: value(task["auroc"][method])


def _by_task(lines: Sequence[Line], of: Callable[[Mapping[str, Any]], float]) -> dict[str, float]:
    """Return the mean over the runs, by task that all of them have."""
    tasks = [task for task in lines[0]["tasks"] if all(task in line["tasks"] for line in lines)]
    return {task: mean(of(line["tasks"][task]) for line in lines) for task in tasks}


def steering_table(lines: Sequence[Line], study: Mapping[str, Any]) -> str:
    """Make a table of effects at matched cost, summed over both directions, by concept."""
    runs = steered_lines(lines, study)
    tasks = list(runs[0]["steering"]) if runs else []
    rows = []
    for steered in all_steered(runs):
        sides = [effects(steered, task) for task in tasks]
        cells = (f"{a + b:.2f}" if a is not None and b is not None else "-" for a, b in sides)
        rows.append((steered.label, *cells))
    return table(("steered with", *tasks), rows)


def dose_table(lines: Sequence[Line], study: Mapping[str, Any], task: str) -> str:
    """Make a table of the change of log-odds at each strength on one task; in brackets the rise of neutral loss."""
    runs = with_doses(steered_lines(lines, study))
    doses = {
        f"latent of {line['variant']}"
        if name == "latent"
        else f"{name.replace('_', ' ')}, beside {line['variant']}": one
        for line in runs
        for name, one in line["steering"][task]["interventions"].items()
        if name != "clamp"
    }
    rows, strengths = [], []
    for label, one in doses.items():
        found = [dose for dose in one["doses"] if dose[0]]
        strengths = [f"{strength:+g}" for strength, _, _ in found]
        cells = ("-" if None in (change, cost) else f"{change:+.2f} ({cost:.2f})" for _, change, cost in found)
        rows.append((label, *cells))
    return table(("steered with", *strengths), rows)


def behaviour_table(lines: Sequence[Line], study: Mapping[str, Any]) -> str:
    """Make a table of refusals and general knowledge under steering of refusal, with 95 % intervals."""
    found: dict[str, list[Any]] = {}
    for line in steered_lines(lines, study):
        for name, doses in line["steering"].get("refusal", {}).get("behaviour", {}).items():
            # interventions without a latent are much the same beside every SAE
            found.setdefault(f"latent of {line['variant']}" if name == "latent" else name.replace("_", " "), doses)
    rows = [
        (label, f"{dose['strength']:+.2f}", *(_share(dose[measure]) for measure in BEHAVIOUR))
        for label, doses in found.items()
        for dose in doses
    ]
    return table(("steered with", "strength", *BEHAVIOUR.values()), rows)


def _share(share: Mapping[str, float | None]) -> str:
    """Format a share with its interval, unless all resamples agree."""
    number, low, high = (share[key] for key in ("value", "low", "high"))
    return f"{number:.2f}" if low is None or low == high else f"{number:.2f} ({low:.2f} to {high:.2f})"


def random_lines() -> list[dict[str, Any]]:
    """Return the record: one line per SAE."""
    return json.loads(UNTRAINED.read_text(encoding="utf-8")) if UNTRAINED.is_file() else []


def random_table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Make a table of best coverage, number of tasks above :data:`HIGH`, and density, by firing rate."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        on = f"{line['name'].removeprefix('k')} of {line['d_sae']} on in a token"
        is_matched = line["name"].startswith(MATCHED)
        groups.setdefault("each latent as often as that of AbsTopK" if is_matched else on, []).append(line)
    rows = []
    for name, group in groups.items():
        covered = [[value for value, _, _ in line["best_coverage"].values()] for line in group]
        above = spread([sum(value > HIGH for value in each) for each in covered], ".0f")
        density = spread([mean(line["density"].values()) for line in group], ".0%")
        found = spread([mean(each) for each in covered], ".3f")
        rows.append((name, str(len(group)), found, above, density))
    return table(("how often latents fire", "draws", "best coverage", f"tasks above {HIGH}", "density"), rows)
