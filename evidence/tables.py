"""Tables of the study as Markdown, and what each of their columns says of a recorded run."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isnan
from statistics import mean
from textwrap import fill
from typing import Any

from evidence.runs import TUNING
from evidence.tune import EXPANSION, GRID, LAYER

PAIRS = (
    ("abstopk", "topk"),
    ("abstopk", "topk_2F"),
    ("abstopk", "jumprelu"),
    ("abstopk", "sae_lens_abstopk"),
    ("abstopk_unit_norm", "abstopk"),
    ("batch_abstopk", "batchtopk"),
    ("batch_abstopk", "batchtopk_2F"),
    ("batch_abstopk", "jumprelu"),
    ("batch_abstopk_unit_norm", "batch_abstopk"),
    ("matryoshka", "batch_abstopk"),
    ("mixed_8th", "batch_abstopk"),
    ("mixed_8th", "batchtopk"),
    ("mixed_8th", "abstopk"),
    ("mixed_8th", "topk"),
    ("mixed_8th", "sae_lens_abstopk"),
    ("mixed_8th", "batchtopk_2F"),
    ("mixed_32nd", "mixed_8th"),
    ("mixed_32nd", "batchtopk"),
    ("mixed_32nd", "abstopk"),
    ("mixed_32nd", "topk"),
    ("mixed_32nd", "topk_2F"),
    ("mixed_32nd", "batchtopk_2F"),
    ("mixed_32nd", "jumprelu"),
    ("mixed_32nd", "gated"),
    ("mixed_32nd", "sae_lens_abstopk"),
)
"""Variants that are compared seed by seed."""
SUMMARISED = ("mixed_32nd", "batchtopk", "topk", "abstopk", "batch_abstopk", "jumprelu", "batchtopk_2F", "topk_2F")
"""Variants that the README names; the page has all."""
Line = Mapping[str, Any]


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


def auroc(method: str) -> Callable[[Sequence[Line]], list[float]]:
    """Mean AUROC of a probe over the tasks."""
    return over_tasks(lambda task: value(task["auroc"][method]))


def stability(lines: Sequence[Line]) -> list[float]:
    """One number a pair of seeds; both runs of a pair may have it."""
    return list(
        {frozenset((line["name"], name)): n for line in lines for name, n in line["stability"].items()}.values()
    )


def density(task: Mapping[str, Any]) -> float:
    """Of the latent of best coverage; without a sign that is a tie at 0.5 of many latents, so there is none."""
    return value([task.get("best_density")]) if value(task["best_coverage"]) > 0.5 else float("nan")


Columns = Mapping[str, tuple[Callable[[Sequence[Line]], list[float]], str]]
"""By name: the numbers of the runs of a variant, and how they are written."""
RECONSTRUCTION: Columns = {
    "FVU": (each(lambda line: line["reconstruction"]["fvu"]), ".4f"),
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
        over_tasks(lambda task: value(task.get("coverage_controls", {}).get("untrained SAE", [None]))),
        ".3f",
    ),
    "its density": (over_tasks(density), ".0%"),
}
COLUMNS: Columns = {**RECONSTRUCTION, **PROBING}


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


def main_table(lines: Sequence[Line], study: Mapping[str, Any], columns: Columns) -> str:
    """Every layer and k at the study's width, variant by variant, as Markdown."""
    parts = []
    for layer in sorted({line["layer"] for line in lines}, key=lambda layer: (layer != LAYER, layer)):
        for k in study["k"]:
            found = by_variant(lines, layer=layer, k=k, expansion=EXPANSION)
            if not found:
                continue
            rows = [
                f"**Layer {layer}, k = {k}**\n",
                f"| SAE | seeds | {' | '.join(columns)} |",
                "|---" * (2 + len(columns)) + "|",
            ]
            for variant in (name for name in study["variants"] if name in found):
                cells = (spread(of(found[variant]), form) for of, form in columns.values())
                rows.append(f"| {variant} | {len(found[variant])} | {' | '.join(cells)} |")
            parts.append("\n".join(rows))
    return "\n\n".join(parts) or "Nothing is recorded yet."


def paired_table(lines: Sequence[Line]) -> str:
    """By how much one variant's FVU exceeds another's, seed by seed, at every place where both are recorded."""
    places = {(line["layer"], line["k"]) for line in lines if line["expansion"] == EXPANSION}
    places = sorted(places, key=lambda place: (place[0] != LAYER, place[0], -place[1]))
    found = [by_variant(lines, layer=layer, k=k, expansion=EXPANSION) for layer, k in places]
    rows = []
    for first, second in PAIRS:
        cells = [spread(excesses(at.get(first, []), at.get(second, [])), "+.1%") for at in found]
        if any(cell != "-" for cell in cells):
            rows.append(f"| {first} against {second} | {' | '.join(cells)} |")
    if not rows:
        return "Nothing is recorded yet."
    head = " | ".join(f"layer {layer}, k = {k}" for layer, k in places)
    return "\n".join([f"| FVU of | {head} |", "|---" * (1 + len(places)) + "|", *rows])


def excesses(lines: Sequence[Line], others: Sequence[Line]) -> list[float]:
    """The share by which the FVU of each run exceeds that of the run of the same seed among ``others``, where there is one."""
    theirs = {line["seed"]: line["reconstruction"]["fvu"] for line in others}
    return [line["reconstruction"]["fvu"] / theirs[line["seed"]] - 1 for line in lines if line["seed"] in theirs]


def recipe_table(lines: Sequence[Line], study: Mapping[str, Any]) -> str:
    """
    What signing a share of the latents costs: FVU against TopK and AbsTopK of the same layer, width, k and seeds, and dead latents.

    It holds on a layer where it is no worse than both, as far as they are recorded, with at most 1 % dead.
    """
    at = {
        layer: by_variant(lines, layer=layer, k=max(study["k"]), expansion=EXPANSION)
        for layer in sorted({entry["layer"] for entry in study["runs"]})
    }
    rows = [f"| SAE | {' | '.join(f'layer {layer}' for layer in at)} | holds on |", "|---" * (2 + len(at)) + "|"]
    for variant, options in study["variants"].items():
        if options["architecture"] != "batch_abstopk" or not any(variant in found for found in at.values()):
            continue
        cells, holds = [], []
        for layer, found in at.items():
            runs = found.get(variant, [])
            against = {name: excesses(runs, found.get(name, [])) for name in ("topk", "abstopk")}
            told = [f"{name} {mean(costs):+.1%}" for name, costs in against.items() if costs]
            dead = mean(COLUMNS["dead"][0](runs)) if runs else float("nan")
            cells.append(", ".join([*told, f"dead {dead:.2%}"]) if runs else "-")
            if told and dead <= 0.01 and all(mean(costs) <= 0 for costs in against.values() if costs):
                holds.append(str(layer))
        rows.append(f"| {variant} | {' | '.join(cells)} | {', '.join(holds) or 'none'} |")
    return "\n".join(rows) if len(rows) > 2 else "Nothing is recorded yet."


def fvu_by_width(lines: Sequence[Line], k: int) -> dict[str, dict[int, list[float]]]:
    """FVU of every seed by variant and number of latents, at the main layer; one that is twice as wide counts as its base."""
    found: dict[str, dict[int, list[float]]] = {}
    for variant, seeds in by_variant(lines, layer=LAYER, k=k).items():
        by_width = found.setdefault(variant.removesuffix("_2F"), {})
        for line in seeds:
            by_width.setdefault(line["sae"]["d_sae"], []).append(line["reconstruction"]["fvu"])
    return found


def width_table(lines: Sequence[Line], study: Mapping[str, Any]) -> str:
    """FVU by the number of latents, at the main layer and larger k, of what was trained at several or signs a share."""
    found = fvu_by_width(lines, max(study["k"]))
    shown = {name: widths for name, widths in found.items() if len(widths) > 1 or name.startswith("mixed_")}
    if not shown:
        return "Nothing is recorded yet."
    names = [name for name in study["variants"] if name in shown]
    rows = [f"| latents | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    for width in sorted({width for by_width in shown.values() for width in by_width}):
        cells = [spread(shown[name][width], ".4f") if width in shown[name] else "-" for name in names]
        rows.append(f"| {width:,} | {' | '.join(cells)} |")
    return "\n".join(rows)


def tuning_table() -> str:
    """FVU on the grid of learning rates."""
    points = json.loads(TUNING.read_text(encoding="utf-8"))["points"] if TUNING.is_file() else []
    if not points:
        return "Nothing is recorded yet."
    rates = sorted({*GRID, *(point["lr"] for point in points)})
    fvu = {(point["variant"], point["lr"]): point["fvu"] for point in points}
    rows = [f"| SAE | {' | '.join(f'{rate:g}' for rate in rates)} |", "|---" * (1 + len(rates)) + "|"]
    for variant in dict.fromkeys(point["variant"] for point in points):
        tried = [fvu.get((variant, rate)) for rate in rates]
        least = min(one for one in tried if one is not None)
        cells = ("-" if one is None else f"**{one:.4f}**" if one == least else f"{one:.4f}" for one in tried)
        rows.append(f"| {variant} | {' | '.join(cells)} |")
    return "\n".join(rows)


def summary(lines: Sequence[Line], study: Mapping[str, Any]) -> str:
    """The main result in a sentence or two, for the README."""
    k = max(study["k"])
    found, narrow = (by_variant(lines, layer=LAYER, k=k, expansion=expansion) for expansion in (EXPANSION, 1))
    if not found:
        return "Nothing of the [study](docs/evidence.md) is recorded yet."
    tokens = next(iter(found.values()))[0]["training"]["tokens"]
    d_in = min(line["sae"]["d_sae"] for seeds in found.values() for line in seeds) // EXPANSION
    at_one = f" With F = D: {from_least_fvu(narrow)}." if narrow else ""
    return fill(
        f"FVU in the [study](docs/evidence.md), SmolLM2-135M-Instruct (4-bit) layer {LAYER}, F = {EXPANSION} D latents (D = {d_in}), k = {k}, {tokens:,} tokens, on "
        f"held-out documents (seeds; `_2F`: twice the latents, `mixed_32nd`: 1 in 32 signed): {from_least_fvu(found)}.{at_one}",
        width=118,
        break_on_hyphens=False,
    )


def from_least_fvu(found: Mapping[str, Sequence[Line]]) -> str:
    """The summarised variants with the mean FVU of their seeds and how many there are, the least first."""
    means = {name: mean(COLUMNS["FVU"][0](found[name])) for name in SUMMARISED if name in found}
    return ", ".join(
        f"`{name}` {means[name]:.4f} ({len(found[name])})" for name in sorted(means, key=means.__getitem__)
    )
