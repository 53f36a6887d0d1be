"""Tables of the study on reconstruction, as Markdown."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import mean
from typing import Any

from experiments.pages import markdown_table
from experiments.study.columns import COLUMNS, Columns, Line, by_place, by_variant, spread
from experiments.study.runs import TUNING

PAIRS = {
    "abstopk": ("topk", "topk_2F", "jumprelu", "sae_lens_abstopk"),
    "abstopk_unit_norm": ("abstopk",),
    "batch_abstopk": ("batchtopk", "batchtopk_2F", "jumprelu"),
    "batch_abstopk_unit_norm": ("batch_abstopk",),
    "matryoshka": ("batch_abstopk",),
    "mixed_8th": ("batch_abstopk", "batchtopk", "abstopk", "topk", "sae_lens_abstopk", "batchtopk_2F"),
    "mixed_32nd": (
        *("mixed_8th", "batch_abstopk", "batchtopk", "abstopk", "topk", "topk_2F", "batchtopk_2F", "jumprelu"),
        *("gated", "sae_lens_abstopk"),
    ),
}
"""Variants compared seed by seed."""
MAIN_PAIRS = {
    "abstopk": ("topk",),
    "batch_abstopk": ("batchtopk",),
    "mixed_32nd": ("batch_abstopk", "batchtopk", "batchtopk_2F", "topk", "topk_2F", "sae_lens_abstopk"),
}
"""Pairs on the page."""
SHOWN = (
    *("mixed_8th", "mixed_32nd", "mixed_64th", "batchtopk", "topk"),
    *("abstopk", "batch_abstopk", "batchtopk_2F", "topk_2F", "jumprelu"),
)
"""Variants in the page's table of FVU."""
LARGEST_DEAD_SHARE = 0.01
"""Variants of the criterion."""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table, or a sentence if it has no rows."""
    rows = list(rows)
    return markdown_table(header, rows) if rows else "Nothing is recorded yet."


def variant_table(found: Mapping[str, Sequence[Line]], study: Mapping[str, Any], columns: Columns) -> str:
    """Make a table with one row per variant."""
    rows = [
        (
            variant,
            str(len(found[variant])),
            *(spread(of(found[variant]), form) for of, form in columns.values()),
        )
        for variant in study["variants"]
        if variant in found
    ]
    return table(("SAE", "seeds", *columns), rows)


def place_table(
    lines: Sequence[Line],
    study: Mapping[str, Any],
    head: str,
    rows_of: Iterable[tuple[str, ...]],
    cell: Callable[..., str],
) -> str:
    """Make a table with a row for each variant or pair in ``rows_of`` and a column for each layer and k."""
    found = by_place(lines, study)
    rows = [
        [" against ".join(names), *(cell(*(at.get(name, []) for name in names)) for at in found.values())]
        for names in rows_of
    ]
    header = (head, *(f"layer {layer}, k = {k}" for layer, k in found))
    return table(header, [row for row in rows if any(cell != "-" for cell in row[1:])])


def mean_fvu(lines: Sequence[Line]) -> float:
    return mean(COLUMNS["FVU"][0](lines))


def fvu_table(lines: Sequence[Line], study: Mapping[str, Any]) -> str:
    """Make a table of the mean FVU by variant, layer and k, with the number of seeds if there are several."""

    def cell(runs: Sequence[Line]) -> str:
        several = f" ({len(runs)})" if len(runs) > 1 else ""
        return f"{mean_fvu(runs):.4f}{several}" if runs else "-"

    shown = [(variant,) for variant in study["variants"] if variant in SHOWN]
    return place_table(lines, study, "FVU (seeds)", shown, cell)


def paired_table(lines: Sequence[Line], study: Mapping[str, Any], metric: str = "FVU") -> str:
    """Make a table of the relative difference in error of pairs of variants, seed by seed, at every common place."""

    def cell(runs: Sequence[Line], others: Sequence[Line]) -> str:
        return spread(excesses(runs, others, metric), "+.1%")

    pairs = [(first, second) for first, seconds in MAIN_PAIRS.items() for second in seconds]
    return place_table(lines, study, f"{metric} of", pairs, cell)


def excesses(lines: Sequence[Line], others: Sequence[Line], metric: str = "FVU") -> list[float]:
    """Return the relative excess of each run's error over that of the same seed in ``others``."""
    key = metric.lower()
    theirs = {line["seed"]: line["reconstruction"][key] for line in others}
    return [line["reconstruction"][key] / theirs[line["seed"]] - 1 for line in lines if line["seed"] in theirs]


def criterion_table(lines: Sequence[Line], study: Mapping[str, Any]) -> str:
    """
    Compare batch-selection SAEs with TopK and AbsTopK of the same layer, width, k and seeds: FVU and dead latents.

    An SAE meets the criterion on a layer if its FVU exceeds neither, and at most 1 % of its latents are dead.
    """
    layers = sorted({entry["layer"] for entry in study["runs"]})
    at = {layer: by_variant(lines, **{**study["main"], "layer": layer}) for layer in layers}
    rows = []
    for variant, options in study["variants"].items():
        if options["architecture"] != "batch_abstopk" or not any(variant in found for found in at.values()):
            continue
        cells, met = [], []
        for layer, found in at.items():
            runs = found.get(variant, [])
            against = {name: excesses(runs, found.get(name, [])) for name in ("topk", "abstopk")}
            costs = {name: mean(excess) for name, excess in against.items() if excess}
            dead = mean(COLUMNS["dead"][0](runs)) if runs else float("nan")
            parts = [*(f"{name} {cost:+.1%}" for name, cost in costs.items()), f"dead {dead:.2%}"]
            cells.append(", ".join(parts) if runs else "-")
            if costs and dead <= LARGEST_DEAD_SHARE and max(costs.values()) <= 0:
                met.append(str(layer))
        rows.append((variant, *cells, ", ".join(met) or "none"))
    return table(("SAE", *(f"layer {layer}" for layer in at), "met on layers"), rows)


def fvu_by_width(lines: Sequence[Line], *, layer: int, k: int) -> dict[str, dict[int, list[float]]]:
    """Return the FVU of every seed by variant and number of latents; ``topk_2F`` counts as a wider ``topk``."""
    found: dict[str, dict[int, list[float]]] = {}
    for variant, seeds in by_variant(lines, layer=layer, k=k).items():
        by_width = found.setdefault(variant.removesuffix("_2F"), {})
        for line in seeds:
            by_width.setdefault(line["sae"]["d_sae"], []).append(line["reconstruction"]["fvu"])
    return found


def width_table(lines: Sequence[Line], study: Mapping[str, Any]) -> str:
    """Make a table of FVU by number of latents at the main layer and k, for variants with several widths."""
    found = fvu_by_width(lines, layer=study["main"]["layer"], k=study["main"]["k"])
    names = [name for name in study["variants"] if len(found.get(name, ())) > 1 or name.startswith("mixed_")]
    names = [name for name in names if name in found]
    widths = sorted({width for name in names for width in found[name]})
    rows = [(f"{width:,}", *(spread(found[name].get(width, []), ".4f") for name in names)) for width in widths]
    return table(("latents", *names), rows)


def tuning_table() -> str:
    """Make a table of FVU on the grid of learning rates, the lowest of a row in bold."""
    points = json.loads(TUNING.read_text(encoding="utf-8"))["points"] if TUNING.is_file() else []
    rates = sorted({point["lr"] for point in points})
    fvu = {(point["variant"], point["lr"]): point["fvu"] for point in points}
    rows = []
    for variant in dict.fromkeys(point["variant"] for point in points):
        tried = [fvu.get((variant, rate)) for rate in rates]
        several = sorted(one for one in tried if one is not None)[:-1]
        cells = ("-" if one is None else f"**{one:.4f}**" if one in several[:1] else f"{one:.4f}" for one in tried)
        rows.append((variant, *cells))
    return table(("SAE", *(f"{rate:g}" for rate in rates)), rows)
