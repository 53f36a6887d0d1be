"""Figures of the study, drawn from its recorded runs."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator

from experiments.study.columns import COLUMNS, Line, by_variant, value
from experiments.study.runs import ROOT
from experiments.study.steered import all_steered, effects, interventions, steered_lines, with_doses
from experiments.study.tables import fvu_by_width
from sae_lens_abstopk.evaluation.figures.style import paper_style

COLUMNS_OF_TASKS = 3
PICTURES = ROOT / "docs" / "pictures"
COLOURS = {
    "mixed_8th": "#D55E00",
    "mixed_32nd": "#E69F00",
    "mixed_64th": "#A6761D",
    "batch_abstopk": "#0072B2",
    "abstopk": "#56B4E9",
    "batchtopk": "#009E73",
    "topk": "#8FBC8F",
    "batchtopk_2F": "#767676",
    "topk_2F": "#B0B0B0",
}


def draw_widths(lines: Sequence[Line], study: Mapping[str, Any]) -> None:
    """Draw FVU against the number of latents, at the main layer and k."""
    layer, k = study["main"]["layer"], study["main"]["k"]
    found = fvu_by_width(lines, layer=layer, k=k)
    with paper_style():
        figure, axis = plt.subplots(figsize=(4.8, 2.8), layout="constrained")
        for variant in (name for name in COLOURS if name in found):
            widths = sorted(found[variant])
            points = [mean(found[variant][width]) for width in widths]
            axis.plot(widths, points, marker="o", color=COLOURS[variant], label=variant)
        ticks = sorted({width for by_width in found.values() for width in by_width})
        axis.set(xscale="log", xlabel="latents", ylabel="FVU", title=f"layer {layer}, k = {k}")
        axis.set_xticks(ticks, [f"{width:,}" for width in ticks])
        axis.minorticks_off()
        if found:
            axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        save(figure, "evidence-widths")


def draw_dots(lines: Sequence[Line], study: Mapping[str, Any], columns: Sequence[str], name: str) -> None:
    """Draw every run at the main place: a panel per column of the table, a row per variant."""
    found = by_variant(lines, **study["main"])
    shown = [variant for variant in study["variants"] if variant in found][::-1]
    with paper_style():
        figure, axes = plt.subplots(1, len(columns), figsize=(6.8, 0.24 * len(shown) + 0.8), layout="constrained")
        for axis, column in zip(axes, columns, strict=True):
            of = COLUMNS[column][0]
            for row, variant in enumerate(shown):
                numbers = of(found[variant])
                axis.plot(numbers, [row] * len(numbers), "o", color=COLOURS.get(variant, "#1b1d20"))
            axis.set(title=column)
            axis.xaxis.set_major_locator(MaxNLocator(4))
            axis.set_yticks(range(len(shown)), shown if axis is axes[0] else [""] * len(shown))
            axis.grid(axis="y", alpha=0.25)
        save(figure, name)


def draw_coverage(lines: Sequence[Line], study: Mapping[str, Any]) -> None:
    """Draw the AUROC of the best latent of each task against its pole coverage."""
    found = by_variant(lines, **study["main"])
    with paper_style():
        figure, axis = plt.subplots(figsize=(3.4, 2.6), layout="constrained")
        for variant in ("batchtopk", "abstopk", "batch_abstopk", "mixed_32nd"):
            tasks = [task for line in found.get(variant, []) for task in line["tasks"].values()]
            if tasks:
                covered = [value(task["coverage"]) for task in tasks]
                scores = [value(task["auroc"]["single latent"]) for task in tasks]
                axis.plot(covered, scores, "o", ms=3, alpha=0.6, color=COLOURS[variant], label=variant)
        axis.axvline(0.5, color="#767676", lw=0.6)
        axis.set(xlabel="pole coverage of the best latent", ylabel="its AUROC")
        if axis.get_legend_handles_labels()[0]:
            axis.legend()
        save(figure, "evidence-coverage")


def draw_steering(lines: Sequence[Line], study: Mapping[str, Any]) -> None:
    """Draw the effect at matched cost of latents, the difference in means and random directions."""
    runs = steered_lines(lines, study)
    if not runs:
        return
    rows = all_steered(runs)[::-1]  # the first on top
    tasks = list(runs[0]["steering"])
    with paper_style():
        figure, axes = plt.subplots(
            -(-len(tasks) // COLUMNS_OF_TASKS), COLUMNS_OF_TASKS, layout="constrained", squeeze=False, sharex=True
        )
        figure.set_size_inches(6.8, (0.16 * len(rows) + 0.55) * len(axes) + 0.2)
        for axis, task in zip(axes.flat, tasks, strict=False):
            for row, steered in enumerate(rows):
                a, b = effects(steered, task)
                if a is not None and b is not None:
                    axis.plot([-a, b], [row, row], "o-", color=colour_of(steered.intervention), ms=3, lw=1)
            axis.axvline(0, color="#767676", lw=0.6)
            axis.set(title=task)
            labels = [steered.label for steered in rows] if axis in axes[:, 0] else [""] * len(rows)
            axis.set_yticks(range(len(rows)), labels)
        figure.supxlabel(
            "change of the log-odds of the poles' words: towards A to the left, towards B to the right",
            fontsize="small",
        )
        save(figure, "evidence-steering")


def draw_doses(lines: Sequence[Line], study: Mapping[str, Any]) -> None:
    """Draw the effect at each strength of a latent and of directions of its norm, by SAE and concept."""
    runs = [line for line in with_doses(steered_lines(lines, study)) if "random_0" in interventions(line)]
    if not runs:
        return
    tasks = list(runs[0]["steering"])
    size = (7.2, 1.5 * len(runs) + 0.4)
    with paper_style():
        figure, axes = plt.subplots(
            len(runs), len(tasks), figsize=size, layout="constrained", squeeze=False, sharex=True, sharey="col"
        )
        for line, row in zip(runs, axes, strict=True):
            for task, axis in zip(tasks, row, strict=True):
                for name, one in line["steering"][task]["interventions"].items():
                    if name != "clamp":
                        strengths, changes, _ = zip(*one["doses"], strict=True)
                        style = "-" if name.startswith("random") else "o-"  # dots would double the size of the file
                        label, colour = name.replace("_", " "), colour_of(name)
                        axis.plot(strengths, changes, style, color=colour, ms=2, lw=1, label=label)
                axis.axhline(0, color="#767676", lw=0.4)
                axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
                if line is runs[0]:
                    axis.set(title=task)
            row[0].set(ylabel=line["variant"])
        figure.supxlabel("strength, in units of the latent's own strong codes", fontsize="small")
        figure.supylabel("change of the log-odds of the poles' words", fontsize="small")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize="small")
        save(figure, "evidence-doses")


def colour_of(intervention: str) -> str:
    return {"latent": "#D55E00", "difference_in_means": "#0072B2"}.get(intervention, "#767676")


def save(figure: Any, name: str) -> None:
    """Write an SVG without a date."""
    PICTURES.mkdir(exist_ok=True)
    figure.savefig(PICTURES / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)
