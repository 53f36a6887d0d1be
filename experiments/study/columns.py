"""What the columns of the study's tables say of a recorded run, and which runs stand together."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isnan
from statistics import mean
from typing import Any, NamedTuple

from sae_lens_abstopk.evaluation.reports.steering_tables import OF_A_LATENT

Line = Mapping[str, Any]


class Steered(NamedTuple):
    """What steered, and beside which SAE that was measured."""

    told: str
    line: Line
    way: str
    """As the record names it."""


def value(interval: Sequence[float | None]) -> float:
    """The number of an interval; NaN where there is none."""
    return float("nan") if interval[0] is None else interval[0]


def each(of: Callable[[Line], float]) -> Callable[[Sequence[Line]], list[float]]:
    """One number a run."""
    return lambda lines: [of(line) for line in lines]


def over_tasks(of: Callable[[Mapping[str, Any]], float]) -> Callable[[Sequence[Line]], list[float]]:
    """Mean over the tasks of a run for which it is defined; NaN where it is for none."""

    def of_line(line: Line) -> float:
        numbers = [number for task in line["tasks"].values() if not isnan(number := of(task))]
        return mean(numbers) if numbers else float("nan")

    return each(of_line)


def once(of: Callable[[Sequence[Line]], list[float]]) -> Callable[[Sequence[Line]], list[float]]:
    """The mean of the runs, as one number: of what does not depend on their seeds, such as a control they share."""

    def of_lines(lines: Sequence[Line]) -> list[float]:
        numbers = [number for number in of(lines) if not isnan(number)]
        return [mean(numbers)] if numbers else []

    return of_lines


def auroc(method: str) -> Callable[[Sequence[Line]], list[float]]:
    """Mean AUROC of a probe over the tasks."""
    return over_tasks(lambda task: value(task["auroc"][method]))


def stability(lines: Sequence[Line]) -> list[float]:
    """One number a pair of seeds; both runs of a pair may have it."""
    return list(
        {frozenset((line["name"], name)): n for line in lines for name, n in line["stability"].items()}.values()
    )


def best_density(task: Mapping[str, Any]) -> float:
    """Density of the latent of best coverage; NaN at 0.5 or less, where latents without a sign tie and which was taken says nothing."""
    return value([task.get("best_density")]) if value(task["best_coverage"]) > 0.5 else float("nan")


Columns = Mapping[str, tuple[Callable[[Sequence[Line]], list[float]], str]]
"""By name: the numbers of the runs of a variant, and how they are written."""
RECONSTRUCTION: Columns = {
    "FVU": (each(lambda line: line["reconstruction"]["fvu"]), ".4f"),
    "nMSE": (each(lambda line: line["reconstruction"]["nmse"]), ".4f"),
    "recovered, zero": (each(lambda line: line["reconstruction"]["loss"]["recovered_zero"]), ".4f"),
    "recovered, mean": (each(lambda line: line["reconstruction"]["loss"]["recovered_mean"]), ".4f"),
    "L0": (each(lambda line: line["reconstruction"]["l0"]), ".1f"),
    "dead": (each(lambda line: line["training"]["dead_latents"] / line["sae"]["d_sae"]), ".2%"),
    "two-sided": (
        each(lambda line: 1 - line["reconstruction"]["dead_poles"] / line["reconstruction"]["live_latents"]),
        ".1%",
    ),
    "antipodal": (each(lambda line: line["geometry"]["latents_in_antipodal_pairs"] / line["sae"]["d_sae"]), ".2%"),
    "stability": (stability, ".3f"),
}
PROBING: Columns = {
    "one latent": (auroc("single latent"), ".3f"),
    "pair": (auroc("pair"), ".3f"),
    "coverage": (over_tasks(lambda task: value(task["coverage"])), ".3f"),
    "best coverage": (over_tasks(lambda task: value(task["best_coverage"])), ".3f"),
    "untrained": (
        once(over_tasks(lambda task: value(task.get("coverage_controls", {}).get("untrained SAE", [None])))),
        ".3f",
    ),
    "density": (over_tasks(best_density), ".0%"),
}
PROBES: Columns = {method: (auroc(method), ".3f") for method in ("5-sparse", "16-sparse", "logistic regression")}
ONE_TASK: Columns = {
    "difference in means": (once(auroc("difference in means")), ".3f"),
    **{name: PROBING[name] for name in ("one latent", "pair", "coverage", "best coverage")},
}
COLUMNS: Columns = {**RECONSTRUCTION, **PROBING, **PROBES}


def examples_of(task: Mapping[str, Any]) -> tuple[int, ...]:
    """How many texts train, val and test had, and groups of test: what tells one set of examples from another."""
    return (*task["texts"], task["groups"])


def by_examples(lines: Iterable[Line], task: str) -> dict[tuple[int, ...], list[Line]]:
    """The runs that measured a task, less what they say of others, by what it was measured on."""
    found: dict[tuple[int, ...], list[Line]] = {}
    for line in lines:
        if task in line["tasks"]:
            of_task = line["tasks"][task]
            found.setdefault(examples_of(of_task), []).append({**line, "tasks": {task: of_task}})
    return found


def without_tasks(line: Line, tasks: Iterable[str]) -> Line:
    """A run, or a control, less what it says of these tasks."""
    dropped = set(tasks)
    told = {
        key: {task: of for task, of in line[key].items() if task not in dropped}
        for key in ("tasks", "best_coverage", "density")
        if key in line
    }
    return {**line, **told}


def spread(numbers: Sequence[float], form: str) -> str:
    """Mean of the seeds for which it is defined, and how far they lie apart; a dash where there is none."""
    numbers = [number for number in numbers if not isnan(number)]
    if not numbers:
        return "-"
    told = format(mean(numbers), form)
    return told if len(numbers) == 1 else f"{told} ({format(min(numbers), form)} to {format(max(numbers), form)})"


def by_variant(lines: Iterable[Line], **place: Any) -> dict[str, list[Line]]:
    """Recorded runs at one place, all seeds of a variant together."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        if all(line[key] == wanted for key, wanted in place.items()):
            found.setdefault(line["variant"], []).append(line)
    return found


def by_place(lines: Sequence[Line], study: Mapping[str, Any]) -> dict[tuple[int, int], dict[str, list[Line]]]:
    """Recorded runs of the main width by layer and k, the main layer and the larger k first, then by variant."""
    main = study["main"]
    places = {(line["layer"], line["k"]) for line in lines if line["expansion"] == main["expansion"]}
    ordered = sorted(places, key=lambda place: (place[0] != main["layer"], place[0], -place[1]))
    return {(layer, k): by_variant(lines, **{**main, "layer": layer, "k": k}) for layer, k in ordered}


def steered_lines(lines: Iterable[Line], study: Mapping[str, Any]) -> list[Line]:
    """The runs whose latents have steered, in the order of the study file."""
    found = [line for line in lines if "steering" in line and line["variant"] in study["steered"]]
    return sorted(found, key=lambda line: study["steered"].index(line["variant"]))


def with_doses(lines: Sequence[Line]) -> list[Line]:
    """Those of steered runs that have what was measured at each strength; early records do not."""
    return [line for line in lines if all("doses" in way for way in ways_of(line).values())]


def ways_of(line: Line) -> Mapping[str, Any]:
    """What was measured of each way to steer, on the first task of a steered run; all its tasks have the same ways."""
    return next(iter(line["steering"].values()))["interventions"]


def what_steered(lines: Sequence[Line]) -> list[Steered]:
    """
    Of steered runs: the latents, and below them what needs no latent, as it came out beside the first run that has it.

    An SAE that was trained again to be steered, and is not the one of the other tables to the last bit, has a star.
    """
    latents = [
        Steered(f"latent of {line['variant']}{'' if _is_probed(line) else ' *'}", line, "latent") for line in lines
    ]
    others: dict[str, Steered] = {}
    for line in lines:
        for way in ways_of(line):
            if way not in OF_A_LATENT:
                others.setdefault(way, Steered(way.replace("_", " "), line, way))
    return [*latents, *others.values()]


def _is_probed(line: Line) -> bool:
    """Whether the SAE that was steered is the one that the rest of its line is of."""
    return line.get("steered_sae", {}).get("weights_sha256") == line["sae"]["weights_sha256"]
