"""Columns of the study's tables, from recorded runs, and runs grouped by variant and place."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isnan, nan
from statistics import mean
from typing import Any

Line = Mapping[str, Any]
"""One line of the record: a run."""
Numbers = Callable[[Sequence[Line]], list[float]]
"""Function that returns the numbers of a variant's runs."""
Columns = Mapping[str, tuple[Numbers, str]]
"""Numbers and format of each column."""


def value(interval: Sequence[float | None]) -> float:
    """Return the value of a recorded interval; NaN if undefined."""
    return nan if interval[0] is None else interval[0]


def each(of: Callable[[Line], float]) -> Numbers:
    """Make a column with one number per run."""
    return lambda lines: [of(line) for line in lines]


def over_tasks(of: Callable[[Mapping[str, Any]], float]) -> Numbers:
    """Make a column with each run's mean over its tasks, without NaN."""

    def of_line(line: Line) -> float:
        numbers = [number for task in line["tasks"].values() if not isnan(number := of(task))]
        return mean(numbers) if numbers else nan

    return each(of_line)


def shared(of: Numbers) -> Numbers:
    """Make a column with one mean over the runs, for numbers that seeds share, such as a control."""

    def of_lines(lines: Sequence[Line]) -> list[float]:
        numbers = [number for number in of(lines) if not isnan(number)]
        return [mean(numbers)] if numbers else []

    return of_lines


def auroc(method: str) -> Numbers:
    """Make a column with a probe's mean AUROC over the tasks."""
    return over_tasks(lambda task: value(task["auroc"][method]))


def stability(lines: Sequence[Line]) -> list[float]:
    """Return one number per pair of seeds; both runs of a pair may record it."""
    pairs = {frozenset((line["name"], name)): n for line in lines for name, n in line["stability"].items()}
    return list(pairs.values())


def best_density(task: Mapping[str, Any]) -> float:
    """Return the density of the latent of best coverage; NaN at a coverage of 0.5, which many latents share."""
    return value([task.get("best_density")]) if value(task["best_coverage"]) > 0.5 else nan


def untrained_coverage(task: Mapping[str, Any]) -> float:
    """Return the best coverage of the untrained control; NaN if not measured."""
    return value(task.get("coverage_controls", {}).get("untrained SAE", [None]))


def two_sided(line: Line) -> float:
    """Return the share of live latents that are two-sided."""
    return 1 - line["reconstruction"]["dead_poles"] / line["reconstruction"]["live_latents"]


RECONSTRUCTION: Columns = {
    "FVU": (each(lambda line: line["reconstruction"]["fvu"]), ".4f"),
    "nMSE": (each(lambda line: line["reconstruction"]["nmse"]), ".4f"),
    "recovered, zero": (each(lambda line: line["reconstruction"]["loss"]["recovered_zero"]), ".4f"),
    "recovered, mean": (each(lambda line: line["reconstruction"]["loss"]["recovered_mean"]), ".4f"),
    "L0": (each(lambda line: line["reconstruction"]["l0"]), ".1f"),
    "dead": (each(lambda line: line["training"]["dead_latents"] / line["sae"]["d_sae"]), ".2%"),
    "two-sided": (each(two_sided), ".1%"),
    "antipodal": (each(lambda line: line["geometry"]["latents_in_antipodal_pairs"] / line["sae"]["d_sae"]), ".2%"),
    "stability": (stability, ".3f"),
}
PROBING: Columns = {
    "one latent": (auroc("single latent"), ".3f"),
    "pair": (auroc("pair"), ".3f"),
    "5-sparse": (auroc("5-sparse"), ".3f"),
    "coverage": (over_tasks(lambda task: value(task["coverage"])), ".3f"),
    "best coverage": (over_tasks(lambda task: value(task["best_coverage"])), ".3f"),
    "untrained": (shared(over_tasks(untrained_coverage)), ".3f"),
    "density": (over_tasks(best_density), ".0%"),
}
COLUMNS: Columns = {**RECONSTRUCTION, **PROBING}


def examples_of(task: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the numbers of train, val and test texts and of test groups, which identify a set of examples."""
    return (*task["texts"], task["groups"])


def without_tasks(line: Line, tasks: Iterable[str]) -> Line:
    """Return a run, or a control, without the numbers of ``tasks``."""
    dropped = set(tasks)
    by_task = {key: line[key] for key in ("tasks", "best_coverage", "density") if key in line}
    kept = {key: {task: of for task, of in found.items() if task not in dropped} for key, found in by_task.items()}
    return {**line, **kept}


def spread(numbers: Sequence[float], form: str) -> str:
    """Format the mean, lowest and highest of the numbers that are not NaN; a dash if there is none."""
    numbers = [number for number in numbers if not isnan(number)]
    if not numbers:
        return "-"
    text = format(mean(numbers), form)
    return text if len(numbers) == 1 else f"{text} ({format(min(numbers), form)} to {format(max(numbers), form)})"


def by_variant(lines: Iterable[Line], **place: Any) -> dict[str, list[Line]]:
    """Group runs at one place (layer, expansion, k) by variant."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        if all(line[key] == wanted for key, wanted in place.items()):
            found.setdefault(line["variant"], []).append(line)
    return found


def by_place(lines: Sequence[Line], study: Mapping[str, Any]) -> dict[tuple[int, int], dict[str, list[Line]]]:
    """Group runs of the main width by (layer, k), main layer and larger k first, then by variant."""
    main = study["main"]
    places = {(line["layer"], line["k"]) for line in lines if line["expansion"] == main["expansion"]}
    ordered = sorted(places, key=lambda place: (place[0] != main["layer"], place[0], -place[1]))
    return {(layer, k): by_variant(lines, **{**main, "layer": layer, "k": k}) for layer, k in ordered}
