"""The record of the study, `results/runs.jsonl`: one line per run, diverged runs included."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from experiments.recording import read_lines
from experiments.study.columns import examples_of
from experiments.study.runs import HERE, Run
from sae_lens_abstopk.evaluation.results.records import Interval
from sae_lens_abstopk.evaluation.results.schema import Results
from sae_lens_abstopk.system.files import write_whole

RECORD = HERE / "results" / "runs.jsonl"
METHODS = (
    "single latent",
    "pair",
    "1-sparse",
    "2-sparse",
    "5-sparse",
    "16-sparse",
    "difference in means",
    "logistic regression",
    "single latent, permuted",
    "16-sparse, permuted",
)


def all_lines() -> dict[str, dict[str, Any]]:
    """Return all lines by run name."""
    return {line["name"]: line for line in read_lines(RECORD)}


def recorded() -> dict[str, dict[str, Any]]:
    """Return the lines of measured SAEs by run name."""
    return {name: line for name, line in all_lines().items() if not has_diverged(line)}


def diverged() -> dict[str, str]:
    """Describe how and when each diverged run diverged."""
    return {name: line["training"]["diverged"] for name, line in all_lines().items() if has_diverged(line)}


def has_diverged(line: Mapping[str, Any]) -> bool:
    """Return whether the run of a line diverged and has no SAE."""
    return "diverged" in line.get("training", {})


def is_recorded(line: Mapping[str, Any] | None, **training: Any) -> bool:
    """Return whether ``line`` records a run with these training facts."""
    return line is not None and all(line["training"].get(key) == wanted for key, wanted in training.items())


def write_lines(lines: Mapping[str, Mapping[str, Any]]) -> None:
    """Write all lines."""
    RECORD.parent.mkdir(exist_ok=True)
    write_whole(RECORD, "".join(json.dumps(lines[name]) + "\n" for name in sorted(lines)))


def record(*new: dict[str, Any]) -> None:
    """Add lines to the record; each replaces an older one of the same name, and what other seeds said of its SAE."""
    lines = all_lines()
    for line in new:
        for other in lines.values():
            other.get("stability", {}).pop(line["name"], None)
        lines[line["name"]] = line
    write_lines(lines)


def differing_tasks(lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the tasks that lines measured on different examples; no mean over lines may include them."""
    found: dict[str, set[tuple[Any, ...]]] = {}
    for line in lines:
        for name, task in line["tasks"].items():
            found.setdefault(name, set()).add(examples_of(task))
    return [name for name, examples in found.items() if len(examples) > 1]


def head_of(run: Run, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the line of a run without an SAE, with the ``facts`` of its training."""
    return {"name": run.name, **run.place, "variant": run.variant, "seed": run.seed, "training": dict(facts)}


def line_of(run: Run, facts: Mapping[str, Any], probing: Results, from_files: Iterable[str] = ()) -> dict[str, Any]:
    """Return the line of a run before steering and stability; ``from_files`` are the tasks not read from the Hub."""
    tasks = {}
    for name, task in probing.tasks.items():
        found = task.saes[run.name]
        tasks[name] = {
            "digest": task.digest[:12],
            "texts": task.texts,
            "groups": task.test_groups,
            "auroc": {method: numbers(found.probes[method].auroc) for method in METHODS if method in found.probes},
            "coverage": numbers(found.latent.coverage),
            "best_coverage": numbers(found.best_coverage.coverage),
            "coverage_controls": {name: numbers(of) for name, of in found.coverage_controls.items()},
            "best_coverage_latent": found.best_coverage.latent,
            "density": rounded(found.latent.density),
            "best_density": rounded(found.best_coverage.density),
            "latent": found.latent.latent,
            "cosine": rounded(found.latent.direction_cosine),
        }
    return {
        **head_of(run, facts),
        "evaluation": {
            "commit": probing.commit,
            "text": probing.text,
            "held_out": probing.held_out,
            "from_files": sorted(from_files),
        },
        "sae": probing.saes[run.name].model_dump(include={"architecture", "d_sae", "weights_sha256"}),
        "reconstruction": probing.reconstruction[run.name].model_dump(mode="json"),
        "geometry": probing.geometry[run.name].model_dump(mode="json"),
        "stability": {},
        "tasks": tasks,
    }


def steered_numbers(record: Any) -> dict[str, Any]:
    """
    Return the effects of each intervention at matched cost and at each dose, and refusals and multiple choice.

    A dose is [strength, change of the log-odds, rise of the NLL of neutral text].
    """
    sides = {"towards_a", "towards_b"}
    numbers_of = {"strength", "reached", "log_odds", "generated_cost", "neutral_cost"}
    found = {}
    for name, one in record.interventions.items():
        found[name] = one.model_dump(mode="json", include={"symmetry": True, **dict.fromkeys(sides, numbers_of)})
        found[name]["doses"] = [
            [
                dose.strength,
                rounded(dose.log_odds - record.baseline_log_odds),
                rounded(dose.neutral_nll - record.baseline_neutral_nll),
            ]
            for dose in one.doses
        ]
    behaviour = {name: [one.model_dump(mode="json") for one in both] for name, both in record.behaviour.items()}
    return {
        "latent": record.latent,
        "baseline_log_odds": rounded(record.baseline_log_odds),
        "interventions": found,
        "behaviour": behaviour,
    }


def numbers(interval: Interval) -> list[float | None]:
    """Return value, low and high of an interval."""
    return [rounded(interval.value), rounded(interval.low), rounded(interval.high)]


def rounded(value: float | None) -> float | None:
    """Round to four digits; None for NaN."""
    return None if value is None or value != value else round(value, 4)
