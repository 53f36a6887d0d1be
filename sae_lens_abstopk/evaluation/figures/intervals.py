"""Figures of measurements with their intervals: AUROC and pole coverage, by concept or method."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sae_lens_abstopk.evaluation.figures.style import GREY, INK, Mark, legend_below, marks, panel
from sae_lens_abstopk.evaluation.probing.method_names import (
    BEST_COVERAGE,
    ON_ACTIVATIONS,
    PAIR,
    PERMUTED,
    SINGLE,
    UNTRAINED,
    is_control,
)
from sae_lens_abstopk.evaluation.results.merging import MergedResults, MergedTask
from sae_lens_abstopk.evaluation.results.records import Interval, ProbeRecord

_ROW_NAME = 26
"""Most characters per line of a row's name."""
_CONTROLS = {PERMUTED: ("permuted (range)", "x"), UNTRAINED: ("untrained SAE", "+")}
_COVERED = {SINGLE: ("o", False), BEST_COVERAGE: ("D", False), PAIR: ("s", True)}
"""Marker by choice of latents, and whether it is hollow."""
_Rows = Sequence[tuple[MergedTask, str]]
"""Task and method of each row of a figure."""


def activation_probes(task: MergedTask) -> dict[str, dict[str, ProbeRecord]]:
    """Return the probes on activations by heading: once if all SAEs share them, else by SAE name."""
    found = {
        f"{task.name}, {sae}": {
            name: probe for name, probe in record.probes.items() if name.removesuffix(PERMUTED) in ON_ACTIVATIONS
        }
        for sae, record in task.saes.items()
    }
    first = next(iter(found.values()), None)
    return found if first is None or any(each != first for each in found.values()) else {task.name: first}


def auroc_figure(merged: MergedResults, method: str = SINGLE) -> Figure | None:
    """Draw the test AUROC by concept: one method on codes, its controls, logistic regression on activations."""
    tasks = [task for task in merged.tasks if any(method in found.probes for found in task.saes.values())]
    if not tasks:
        return None
    figure, axes = panel(height=_rows_height(len(tasks), len(merged.saes) + 1))
    *places, last = _offsets(len(merged.saes) + 1)
    _draw_codes(axes, merged, [(task, method) for task in tasks], places)
    _draw_activations(axes, [(task, ON_ACTIVATIONS[-1]) for task in tasks], last)
    return _finish_auroc(figure, axes, [task.name for task in tasks])


def methods_figure(merged: MergedResults, task: MergedTask) -> Figure:
    """Draw the test AUROC of every method on one concept, with its controls."""
    found = merged.only(saes=list(task.saes))
    methods = list(dict.fromkeys(name for sae in task.saes.values() for name in sae.probes if not is_control(name)))
    figure, axes = panel(height=_rows_height(len(methods), len(task.saes)))
    of_codes = [(task, "" if method in ON_ACTIVATIONS else method) for method in methods]
    _draw_codes(axes, found, of_codes, _offsets(len(found.saes)))
    _draw_activations(axes, [(task, method) for method in methods], 0, controls=True)
    return _finish_auroc(figure, axes, methods)


def coverage_figure(merged: MergedResults) -> Figure | None:
    """Draw the test pole coverage of the latents chosen by AUROC, by coverage and as a pair."""

    def interval(task: MergedTask, sae: str, kind: str) -> Interval | None:
        found = task.saes.get(sae)
        return found and {SINGLE: found.latent, BEST_COVERAGE: found.best_coverage, PAIR: found.pair}[kind].coverage

    tasks = [task for task in merged.tasks if task.saes]
    x = "pole coverage on test (non-negative: at most 0.5)"
    return kinds_figure(merged, tasks, _COVERED, interval, x=x, bound=0.5) if tasks else None


def _draw_codes(axes: Axes, merged: MergedResults, rows: _Rows, places: Sequence[float]) -> None:
    """Draw a marker for each SAE in each row, with its controls beneath."""
    style = marks(merged)
    probes = [[task.saes[sae.name].probes if sae.name in task.saes else {} for task, _ in rows] for sae in merged.saes]
    for sae, of_sae, at in zip(merged.saes, probes, places, strict=True):
        _draw_intervals(axes, _points(rows, of_sae, at), style[sae.name], label=sae.variant)
    for of_sae, at in zip(probes, places, strict=True):
        for ending in _CONTROLS:
            _draw_control(axes, _points(rows, of_sae, at, ending), ending)


def _draw_activations(axes: Axes, rows: _Rows, at: float, *, controls: bool = False) -> None:
    """Draw a star for each probe on activations: one per row, or one per SAE if they differ."""
    by_row = [list(activation_probes(task).values()) for task, _ in rows]
    most = max(map(len, by_row))
    for index, offset in enumerate(_offsets(most) if most > 1 else [at]):
        probes = [found[index] if index < len(found) else {} for found in by_row]
        _draw_intervals(axes, _points(rows, probes, offset), Mark(INK, "*"), label="probe on activations")
        if controls:
            _draw_control(axes, _points(rows, probes, offset, PERMUTED), PERMUTED)


def _draw_control(axes: Axes, points: Sequence[tuple[float, Interval]], ending: str) -> None:
    label, marker = _CONTROLS[ending]
    _draw_intervals(axes, points, Mark(GREY, marker), label=label, alpha=0.7, zorder=1)


def _points(
    rows: _Rows, probes: Sequence[Mapping[str, ProbeRecord]], at: float, ending: str = ""
) -> list[tuple[float, Interval]]:
    """Return the AUROC of each row that has one, placed ``at`` below the middle."""
    return [
        (row + at, found[method + ending].auroc)
        for row, ((_, method), found) in enumerate(zip(rows, probes, strict=True))
        if method + ending in found
    ]


def _finish_auroc(figure: Figure, axes: Axes, names: Sequence[str]) -> Figure:
    """Draw the line of chance; the axis goes from 0.3 or the lowest interval's end to 1."""
    axes.axvline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    return _finish(figure, axes, names, "AUROC on test", lowest=min(0.3, axes.dataLim.x0))


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
    Draw one row per task with ``interval(task, SAE, kind)`` for every SAE and kind, on an axis ``x`` from 0 to 1.

    ``kinds`` gives the marker, and True if it is hollow, by name in the legend; a dashed line is drawn at ``bound``.
    """
    places = iter(_offsets(len(merged.saes) * len(kinds)))
    figure, axes = panel(height=_rows_height(len(tasks), len(merged.saes) * len(kinds)))
    for sae, mark in zip(merged.saes, marks(merged).values(), strict=True):
        axes.plot([], [], "_", color=mark.colour, markeredgewidth=2, markersize=6, label=sae.variant)
        for kind, (marker, hollow) in kinds.items():
            at = next(places)
            found = [(row + at, interval(task, sae.name, kind)) for row, task in enumerate(tasks)]
            points = [(height, each) for height, each in found if each is not None]
            _draw_intervals(axes, points, Mark(mark.colour, marker), hollow=hollow)
    for kind, (marker, hollow) in kinds.items():
        axes.plot([], [], marker, color=GREY, markerfacecolor="none" if hollow else GREY, label=kind)
    if bound is not None:
        axes.axvline(bound, color=GREY, linewidth=0.8, linestyle="--")
    return _finish(figure, axes, [task.name for task in tasks], x, lowest=0)


def _rows_height(rows: int, in_each: int) -> float:
    """Return the inches for ``rows`` rows of ``in_each`` markers."""
    return 0.6 + rows * max(0.26, 0.09 * in_each + 0.1)


def _offsets(count: int) -> list[float]:
    """Return the heights within a row of ``count`` markers, one above the other."""
    return [(index + 0.5) / count * 0.8 - 0.4 for index in range(count)]


def _draw_intervals(
    axes: Axes, points: Sequence[tuple[float, Interval]], mark: Mark, *, hollow: bool = False, **kwargs: Any
) -> None:
    """Draw a marker with its interval at each height of ``points`` that has a value."""
    known = [(height, each.value, each.low, each.high) for height, each in points if each.value is not None]
    if not known:
        return
    heights, values, _, _ = zip(*known, strict=True)
    below = [max(value - low, 0) if low is not None else 0 for _, value, low, _ in known]
    above = [max(high - value, 0) if high is not None else 0 for _, value, _, high in known]
    axes.errorbar(
        values,
        heights,
        xerr=[below, above],
        fmt=mark.marker,
        color=mark.colour,
        markerfacecolor="none" if hollow else mark.colour,
        elinewidth=0.8,
        markeredgewidth=0.8,
        **kwargs,
    )


def _finish(figure: Figure, axes: Axes, names: Sequence[str], x: str, *, lowest: float) -> Figure:
    """Name the x axis, which ends at 1, and the heights 0, 1, ... of the y axis, the first on top."""
    axes.set_xlabel(x)
    axes.set_xlim(lowest - 0.02, 1.02)
    labels = [textwrap.fill(name, _ROW_NAME, break_on_hyphens=False) for name in names]
    axes.set_yticks(range(len(names)), labels=labels)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    for between in range(1, len(names)):
        axes.axhline(between - 0.5, color=GREY, linewidth=0.3)
    legend_below(figure)
    return figure
