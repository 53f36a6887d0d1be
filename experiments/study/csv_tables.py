"""The tables of the study as CSV: one row per run, task, pair, dose or control, with all digits of the record."""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isnan
from typing import Any

from experiments.study.columns import PROBING, RECONSTRUCTION, Line, by_variant, value
from experiments.study.concept_tables import BEHAVIOUR
from experiments.study.runs import TUNING
from experiments.study.steered import steered_lines, with_doses
from experiments.study.tables import PAIRS, excesses

PLACE = ("layer", "expansion", "k", "variant", "seed")
AUROCS = ("single latent", "pair", "5-sparse", "16-sparse", "difference in means", "logistic regression")
Row = Mapping[str, Any]


def csv_tables(
    lines: Sequence[Line], comparable: Sequence[Line], controls: Sequence[Line], study: Mapping[str, Any]
) -> dict[str, str]:
    """Return all tables by file name; ``comparable`` are lines whose tasks have the same texts."""
    steered = steered_lines(lines, study)
    tables = {
        "runs": run_rows(comparable),
        "pairs": pair_rows(lines),
        "stability": stability_rows(lines),
        "tasks": task_rows(lines),
        "untrained": control_rows(controls),
        "steering": steering_rows(steered),
        "doses": dose_rows(with_doses(steered)),
        "refusal": refusal_rows(steered),
        "learning-rates": rate_rows(),
    }
    return {f"{name}.csv": as_csv(rows) for name, rows in tables.items()}


def as_csv(rows: Iterable[Row]) -> str:
    """Format rows with the same keys as CSV; NaN and None are empty cells."""
    out, rows = io.StringIO(), list(rows)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(re.sub(r"[\W]+", "_", key) for key in (rows[0] if rows else ()))
    writer.writerows(map(_cell, row.values()) for row in rows)
    return out.getvalue()


def _cell(found: Any) -> Any:
    if isinstance(found, float):
        return "" if isnan(found) else f"{found:.6g}"
    return found


def _place(line: Line) -> Row:
    return {key: line[key] for key in PLACE}


def _interval(name: str, interval: Sequence[float | None]) -> Row:
    return dict(zip((name, f"{name}, low", f"{name}, high"), interval, strict=True))


def _estimate(name: str, estimate: Mapping[str, Any]) -> Row:
    return _interval(name, [estimate[key] for key in ("value", "low", "high")])


def run_rows(lines: Iterable[Line]) -> Iterator[Row]:
    """Return each run with its reconstruction, geometry and means over the tasks."""
    columns = {**RECONSTRUCTION, **PROBING}
    del columns["stability"]
    for line in lines:
        numbers = {name: next(iter(of([line])), None) for name, (of, _) in columns.items()}
        yield {**_place(line), "d_sae": line["sae"]["d_sae"], "lr": line["training"]["lr"], **numbers}


def pair_rows(lines: Sequence[Line]) -> Iterator[Row]:
    """Return the relative difference in error of each pair of variants, by place and seed."""
    for place in sorted({(line["layer"], line["expansion"], line["k"]) for line in lines}):
        found = by_variant(lines, **dict(zip(PLACE, place, strict=False)))
        for first, second in ((first, second) for first, seconds in PAIRS.items() for second in seconds):
            for line in found.get(first, []):
                for fvu, nmse in zip(
                    *(excesses([line], found.get(second, []), m) for m in ("FVU", "nMSE")), strict=True
                ):
                    yield {**_place(line), "against": second, "FVU": fvu, "nMSE": nmse}


def stability_rows(lines: Iterable[Line]) -> Iterator[Row]:
    """Return the mean matched cosine of each pair of seeds."""
    for line in lines:
        for other, cosine in sorted(line["stability"].items()):
            if line["name"] < other:
                yield {**_place(line), "other": other, "mean matched cosine": cosine}


def task_rows(lines: Iterable[Line]) -> Iterator[Row]:
    """Return each run on each task: AUROC of every probe, and coverage, with intervals."""
    for line in lines:
        for name, task in line["tasks"].items():
            row: dict[str, Any] = {**_place(line), "task": name, "test texts": task["texts"][2]}
            for method in AUROCS:
                row |= _interval(method, task["auroc"].get(method, [None] * 3))
            for key in ("coverage", "best_coverage"):
                row |= _interval(key.replace("_", " "), task[key])
            untrained = task.get("coverage_controls", {}).get("untrained SAE", [None])
            row["untrained coverage"] = value(untrained)
            for key in ("latent", "density", "best_coverage_latent", "best_density"):
                row[key.replace("_", " ")] = task.get(key)
            yield row


def control_rows(lines: Iterable[Line]) -> Iterator[Row]:
    """Return the best coverage of every untrained SAE on each task."""
    for line in lines:
        for task, interval in line["best_coverage"].items():
            yield {
                "SAE": line["name"],
                "task": task,
                **_interval("coverage", interval),
                "density": line["density"][task],
            }


def steering_rows(lines: Iterable[Line]) -> Iterator[Row]:
    """Return each intervention at matched cost, towards each pole."""
    for line in lines:
        for task, found in line["steering"].items():
            for intervention, one in found["interventions"].items():
                for side in ("towards_a", "towards_b"):
                    at = one[side]
                    row = {"variant": line["variant"], "task": task, "intervention": intervention, "side": side}
                    row |= {"strength": at["strength"], "cost reached": at["reached"]}
                    costs = {"neutral cost": "neutral_cost", "generated cost": "generated_cost"}
                    for name, key in {"log-odds": "log_odds", **costs}.items():
                        row |= _estimate(name, at[key])
                    yield row


def dose_rows(lines: Iterable[Line]) -> Iterator[Row]:
    """Return each intervention at each strength."""
    for line in lines:
        for task, found in line["steering"].items():
            for intervention, one in found["interventions"].items():
                for strength, change, cost in one["doses"]:
                    row = {"variant": line["variant"], "task": task, "intervention": intervention}
                    yield {**row, "strength": strength, "log-odds": change, "neutral cost": cost}


def refusal_rows(lines: Iterable[Line]) -> Iterator[Row]:
    """Return refusals and multiple choice under steering of refusal."""
    for line in lines:
        for intervention, doses in line["steering"].get("refusal", {}).get("behaviour", {}).items():
            for dose in doses:
                row = {"variant": line["variant"], "intervention": intervention, "strength": dose["strength"]}
                for key, name in BEHAVIOUR.items():
                    row |= _estimate(name, dose[key])
                yield row


def rate_rows() -> Iterator[Row]:
    """Return every point of the grid of learning rates."""
    points = json.loads(TUNING.read_text(encoding="utf-8"))["points"] if TUNING.is_file() else []
    for point in points:
        yield {key: point.get(key) for key in ("variant", "lr", "fvu", "l0", "tokens", "dead_latents")}
