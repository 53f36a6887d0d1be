"""Tables of the study as Markdown."""

import json
from collections.abc import Callable, Mapping, Sequence
from statistics import mean
from typing import Any

from experiments.study.columns import COLUMNS, ONE_TASK, Columns, Line, by_examples, by_place, by_variant, spread
from experiments.study.runs import TUNING, chosen_rates

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
    ("mixed_32nd", "batch_abstopk"),
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
MAIN_PAIRS = (
    ("abstopk", "topk"),
    ("batch_abstopk", "batchtopk"),
    ("mixed_32nd", "batch_abstopk"),
    ("mixed_32nd", "batchtopk"),
    ("mixed_32nd", "batchtopk_2F"),
    ("mixed_32nd", "topk"),
    ("mixed_32nd", "topk_2F"),
    ("mixed_32nd", "sae_lens_abstopk"),
)
"""Those that answer the question; the others are in the tables alone."""
SHOWN = (
    "mixed_8th",
    "mixed_32nd",
    "mixed_64th",
    "batchtopk",
    "topk",
    "abstopk",
    "batch_abstopk",
    "batchtopk_2F",
    "topk_2F",
    "jumprelu",
)
"""Variants in the page's table of FVU."""
PROBED = ("mixed_32nd", "batchtopk", "topk", "abstopk", "batch_abstopk", "matryoshka")
"""Variants in the page's table of probes."""
SUMMARISED = ("mixed_32nd", "batchtopk", "topk", "abstopk", "batch_abstopk", "jumprelu", "batchtopk_2F", "topk_2F")
"""Variants that the README names; the page has all."""


def is_stale(line: Line, rates: Mapping[str, float]) -> bool:
    """Whether a run was trained before tuning chose its learning rate; ``rates`` are the chosen ones, by variant."""
    return line["training"]["lr"] != rates[line["variant"]]


def marked(told: str, lines: Sequence[Line], rates: Mapping[str, float]) -> str:
    """What is told of runs, with a dagger where one is stale."""
    return f"{told} †" if any(is_stale(line, rates) for line in lines) else told


def variant_table(found: Mapping[str, Sequence[Line]], study: Mapping[str, Any], columns: Columns) -> str:
    """One row a variant, as Markdown."""
    rows = [f"| SAE | seeds | {' | '.join(columns)} |", "|---" * (2 + len(columns)) + "|"]
    rates = chosen_rates(study)
    for variant in (name for name in study["variants"] if name in found):
        cells = (spread(of(found[variant]), form) for of, form in columns.values())
        name = marked(variant, found[variant], rates)
        rows.append(f"| {name} | {len(found[variant])} | {' | '.join(cells)} |")
    return "\n".join(rows) if len(rows) > 2 else "Nothing is recorded yet."


def whole_table(lines: Sequence[Line], study: Mapping[str, Any], columns: Columns) -> str:
    """Every layer and k at the study's width."""
    parts = [
        f"**Layer {layer}, k = {k}**\n\n{variant_table(found, study, columns)}"
        for (layer, k), found in by_place(lines, study).items()
    ]
    return "\n\n".join(parts) or "Nothing is recorded yet."


def uneven_tables(lines: Sequence[Line], study: Mapping[str, Any], tasks: Sequence[str]) -> str:
    """Tasks that were not measured on the same examples in every run: a table for each set of examples, layer and k."""
    parts = [
        f"**{task}, {n_texts} test texts, layer {layer}, k = {k}**\n\n{variant_table(found, study, ONE_TASK)}"
        for task in tasks
        for (*_, n_texts, _), of_examples in sorted(by_examples(lines, task).items())
        for (layer, k), found in by_place(of_examples, study).items()
    ]
    return "\n\n".join(parts) or "There is none."


def place_table(
    lines: Sequence[Line],
    study: Mapping[str, Any],
    head: str,
    rows_of: Sequence[tuple[str, ...]],
    cell: Callable[..., str],
) -> str:
    """One row for each of ``rows_of``, one or two variants, one column a layer and k; rows that would be empty are left out."""
    found = by_place(lines, study)
    rows = [
        [" against ".join(names), *(cell(*(at.get(name, []) for name in names)) for at in found.values())]
        for names in rows_of
    ]
    rows = [f"| {' | '.join(row)} |" for row in rows if any(cell != "-" for cell in row[1:])]
    if not rows:
        return "Nothing is recorded yet."
    places = " | ".join(f"layer {layer}, k = {k}" for layer, k in found)
    return "\n".join([f"| {head} | {places} |", "|---" * (1 + len(found)) + "|", *rows])


def fvu_table(lines: Sequence[Line], study: Mapping[str, Any]) -> str:
    """Mean FVU of the shown variants at every layer and k, with the number of seeds where there are several."""
    rates = chosen_rates(study)

    def cell(runs: Sequence[Line]) -> str:
        several = f" ({len(runs)})" if len(runs) > 1 else ""
        return marked(f"{mean(COLUMNS['FVU'][0](runs)):.4f}{several}", runs, rates) if runs else "-"

    return place_table(
        lines, study, "FVU (seeds)", [(variant,) for variant in study["variants"] if variant in SHOWN], cell
    )


def paired_table(
    lines: Sequence[Line], study: Mapping[str, Any], pairs: Sequence[tuple[str, str]] = PAIRS, metric: str = "FVU"
) -> str:
    """By how much the error of one variant exceeds another's, seed by seed, at every place where both are recorded."""
    rates = chosen_rates(study)

    def cell(runs: Sequence[Line], others: Sequence[Line]) -> str:
        found = excesses(runs, others, metric)
        return marked(spread(found, "+.1%"), [*runs, *others] if found else [], rates)

    return place_table(lines, study, f"{metric} of", pairs, cell)


def excesses(lines: Sequence[Line], others: Sequence[Line], metric: str = "FVU") -> list[float]:
    """The share by which the error of each run exceeds that of the run of the same seed among ``others``, where there is one."""
    theirs = {line["seed"]: line["reconstruction"][metric.lower()] for line in others}
    return [
        line["reconstruction"][metric.lower()] / theirs[line["seed"]] - 1 for line in lines if line["seed"] in theirs
    ]


def recipe_table(lines: Sequence[Line], study: Mapping[str, Any]) -> str:
    """
    What signing a share of the latents costs: FVU against TopK and AbsTopK of the same layer, width, k and seeds, and dead latents.

    It meets the criterion on a layer where it is no worse than both, as far as they are recorded, with at most 1 % dead.
    """
    at = {
        layer: by_variant(lines, **{**study["main"], "layer": layer})
        for layer in sorted({entry["layer"] for entry in study["runs"]})
    }
    rows = [f"| SAE | {' | '.join(f'layer {layer}' for layer in at)} | met on layers |", "|---" * (2 + len(at)) + "|"]
    for variant, options in study["variants"].items():
        if options["architecture"] != "batch_abstopk" or not any(variant in found for found in at.values()):
            continue
        cells, met = [], []
        for layer, found in at.items():
            runs = found.get(variant, [])
            against = {name: excesses(runs, found.get(name, [])) for name in ("topk", "abstopk")}
            told = [f"{name} {mean(costs):+.1%}" for name, costs in against.items() if costs]
            dead = mean(COLUMNS["dead"][0](runs)) if runs else float("nan")
            cells.append(", ".join([*told, f"dead {dead:.2%}"]) if runs else "-")
            if told and dead <= 0.01 and all(mean(costs) <= 0 for costs in against.values() if costs):
                met.append(str(layer))
        rows.append(f"| {variant} | {' | '.join(cells)} | {', '.join(met) or 'none'} |")
    return "\n".join(rows) if len(rows) > 2 else "Nothing is recorded yet."


def fvu_by_width(lines: Sequence[Line], *, layer: int, k: int) -> dict[str, dict[int, list[float]]]:
    """FVU of every seed by variant and number of latents; one that is twice as wide counts as its base."""
    found: dict[str, dict[int, list[float]]] = {}
    for variant, seeds in by_variant(lines, layer=layer, k=k).items():
        by_width = found.setdefault(variant.removesuffix("_2F"), {})
        for line in seeds:
            by_width.setdefault(line["sae"]["d_sae"], []).append(line["reconstruction"]["fvu"])
    return found


def width_table(lines: Sequence[Line], study: Mapping[str, Any]) -> str:
    """FVU by the number of latents, at the main layer and k, of what was trained at several or signs a share."""
    found = fvu_by_width(lines, layer=study["main"]["layer"], k=study["main"]["k"])
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
    """FVU on the grid of learning rates; the least in bold, where there is another."""
    points = json.loads(TUNING.read_text(encoding="utf-8"))["points"] if TUNING.is_file() else []
    if not points:
        return "Nothing is recorded yet."
    rates = sorted({point["lr"] for point in points})
    fvu = {(point["variant"], point["lr"]): point["fvu"] for point in points}
    rows = [f"| SAE | {' | '.join(f'{rate:g}' for rate in rates)} |", "|---" * (1 + len(rates)) + "|"]
    for variant in dict.fromkeys(point["variant"] for point in points):
        tried = [fvu.get((variant, rate)) for rate in rates]
        several = sorted(one for one in tried if one is not None)[:-1]
        cells = ("-" if one is None else f"**{one:.4f}**" if one in several[:1] else f"{one:.4f}" for one in tried)
        rows.append(f"| {variant} | {' | '.join(cells)} |")
    return "\n".join(rows)


def summary(lines: Sequence[Line], study: Mapping[str, Any]) -> str:
    """The main result for the README: FVU of the summarised variants at the main layer, the least first."""
    main, rates = study["main"], chosen_rates(study)
    found, narrow, twice = (
        by_variant(lines, **{**main, "expansion": expansion}) for expansion in (main["expansion"], 1, 2)
    )
    narrow |= {f"{name}_2F": seeds for name, seeds in twice.items() if name in narrow}
    fvu = {name: mean(COLUMNS["FVU"][0](found[name])) for name in SUMMARISED if name in found}
    if not fvu:
        return "Nothing is recorded yet."
    shown = sorted(fvu, key=fvu.__getitem__)
    rows = [f"| FVU (seeds) | {' | '.join(f'`{name}`' for name in shown)} |", "|---" * (1 + len(shown)) + "|"]
    for width, seeds in ((f"F = {main['expansion']} D", found), ("F = D", narrow)):
        cells = (
            marked(f"{mean(COLUMNS['FVU'][0](seeds[name])):.4f} ({len(seeds[name])})", seeds[name], rates)
            if name in seeds
            else "-"
            for name in shown
        )
        rows.append(f"| {width} | {' | '.join(cells)} |")
    return "\n".join(rows)
