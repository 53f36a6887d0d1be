"""Figures about probing: AUROC and pole coverage with their intervals, one row a concept."""

from typing import TYPE_CHECKING

from sae_lens_abstopk.evaluation.figures.style import (
    GREY,
    INK,
    Mark,
    draw_intervals,
    legend_below,
    marks,
    name_rows,
    panels,
)
from sae_lens_abstopk.evaluation.probing.method_names import ON_ACTIVATIONS, PERMUTED, SINGLE, UNTRAINED
from sae_lens_abstopk.evaluation.reports.merged_results import MergedResults
from sae_lens_abstopk.evaluation.reports.plot_style import offsets
from sae_lens_abstopk.evaluation.reports.task_tables import activation_probes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CONTROLS = {PERMUTED: ("permuted (range of five)", "x"), UNTRAINED: ("untrained SAE", "+")}


def auroc_figure(merged: MergedResults) -> "Figure | None":
    """AUROC on test of the best single latent, its controls, and logistic regression on the activations."""
    tasks = [task for task in merged.tasks if any(SINGLE in found.probes for found in task.saes.values())]
    if not tasks:
        return None
    names, style = merged.names, marks(merged)
    drawn, ((axes,),) = panels(1, 1, height=_height(len(tasks), len(names)))
    named: set[str] = set()

    def label(of: str) -> str | None:
        new = of not in named
        named.add(of)
        return of if new else None

    for sae, at in zip(merged.saes, offsets(len(names)), strict=True):
        for ending, (called, marker) in _CONTROLS.items():
            found = [
                (row + at, task.saes[sae.name].probes[SINGLE + ending].auroc)
                for row, task in enumerate(tasks)
                if SINGLE + ending in (task.saes[sae.name].probes if sae.name in task.saes else {})
            ]
            if found:
                heights, intervals = zip(*found, strict=True)
                draw_intervals(axes, intervals, heights, Mark(GREY, marker), label=label(called), alpha=0.7)
        found = [
            (row + at, task.saes[sae.name].probes[SINGLE].auroc)
            for row, task in enumerate(tasks)
            if SINGLE in (task.saes[sae.name].probes if sae.name in task.saes else {})
        ]
        if found:
            heights, intervals = zip(*found, strict=True)
            draw_intervals(axes, intervals, heights, style[sae.name], label=label(sae.variant))
    dense = ON_ACTIVATIONS[-1]
    for row, task in enumerate(tasks):
        for _, probes in activation_probes(task):
            if dense in probes:
                called = label("probe on activations")
                draw_intervals(axes, [probes[dense].auroc], [row], Mark(INK, "*"), label=called)
    axes.axvline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_xlabel("AUROC of the best single latent")
    axes.set_xlim(right=1.02)
    name_rows(axes, [task.name for task in tasks])
    legend_below(drawn, axes)
    return drawn


def coverage_figure(merged: MergedResults) -> "Figure | None":
    """Pole coverage on test of the latent chosen for it, and of the best pair (hollow)."""
    tasks = [task for task in merged.tasks if task.saes]
    if not tasks:
        return None
    names, style = merged.names, marks(merged)
    drawn, ((axes,),) = panels(1, 1, height=_height(len(tasks), 2 * len(names)))
    named: set[str] = set()
    for index, sae in enumerate(merged.saes):
        for pair in (False, True):
            at = offsets(2 * len(names))[2 * index + pair]
            called = f"{sae.variant}, pair" if pair else sae.variant
            found = [
                (row + at, (task.saes[sae.name].pair if pair else task.saes[sae.name].best_coverage).coverage)
                for row, task in enumerate(tasks)
                if sae.name in task.saes
            ]
            if found:
                heights, intervals = zip(*found, strict=True)
                label = None if called in named else called
                named.add(called)
                draw_intervals(axes, intervals, heights, style[sae.name], hollow=pair, label=label)
    axes.axvline(0.5, color=GREY, linewidth=0.8, linestyle="--")
    axes.set_xlabel("pole coverage (non-negative latents: at most 0.5)")
    axes.set_xlim(-0.02, 1.02)
    name_rows(axes, [task.name for task in tasks])
    legend_below(drawn, axes)
    return drawn


def _height(rows: int, in_each: int) -> float:
    """Inches for ``rows`` rows of ``in_each`` markers."""
    return 0.6 + rows * max(0.26, 0.09 * in_each + 0.1)
