"""A figure of intervals by concept; colour is the SAE, the marker is the kind of measurement."""

from collections.abc import Callable, Mapping, Sequence

from matplotlib.figure import Figure

from sae_lens_abstopk.evaluation.figures.style import (
    GREY,
    Mark,
    draw_intervals,
    legend_below,
    marks,
    name_rows,
    offsets,
    panel,
    rows_height,
)
from sae_lens_abstopk.evaluation.results.merging import MergedResults, MergedTask
from sae_lens_abstopk.evaluation.results.records import Interval


def kinds_figure(
    merged: MergedResults,
    tasks: Sequence[MergedTask],
    kinds: Mapping[str, tuple[str, bool]],
    interval: Callable[[MergedTask, str, str], Interval | None],
    *,
    x: str,
    bound: float | None = None,
) -> Figure:
    """
    Draw one row per task with ``interval(task, SAE, kind)`` for every SAE and kind, on an axis from 0 to 1.

    Args:
        merged: SAEs and their colours.
        tasks: Tasks of the rows.
        kinds: Marker, and True if it is hollow, by name in the legend.
        interval: Returns None without a measurement.
        x: Label of the axis.
        bound: Position of a dashed line.
    """
    places = iter(offsets(len(merged.saes) * len(kinds)))
    figure, axes = panel(height=rows_height(len(tasks), len(merged.saes) * len(kinds)))
    for sae, mark in zip(merged.saes, marks(merged).values(), strict=True):
        axes.plot([], [], "_", color=mark.colour, markeredgewidth=2, markersize=6, label=sae.variant)
        for kind, (marker, hollow) in kinds.items():
            at = next(places)
            found = [(row + at, interval(task, sae.name, kind)) for row, task in enumerate(tasks)]
            points = [(height, each) for height, each in found if each is not None]
            draw_intervals(axes, points, Mark(mark.colour, marker), hollow=hollow)
    for kind, (marker, hollow) in kinds.items():
        axes.plot([], [], marker, color=GREY, markerfacecolor="none" if hollow else GREY, label=kind)
    if bound is not None:
        axes.axvline(bound, color=GREY, linewidth=0.8, linestyle="--")
    axes.set_xlabel(x)
    axes.set_xlim(-0.02, 1.02)
    name_rows(axes, [task.name for task in tasks])
    legend_below(figure)
    return figure
