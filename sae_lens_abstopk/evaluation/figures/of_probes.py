"""Figures of probing: AUROC by concept and by method, and pole coverage by concept, with their intervals."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sae_lens_abstopk.evaluation.figures.by_kind import kinds_figure
from sae_lens_abstopk.evaluation.figures.style import (
    GREY,
    INK,
    Mark,
    draw_intervals,
    legend_below,
    marks,
    name_rows,
    offsets,
    panel,
    rows_height,
)
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
    figure, axes = panel(height=rows_height(len(tasks), len(merged.saes) + 1))
    *places, last = offsets(len(merged.saes) + 1)
    _draw_codes(axes, merged, [(task, method) for task in tasks], places)
    _draw_activations(axes, [(task, ON_ACTIVATIONS[-1]) for task in tasks], last)
    return _finish_auroc(figure, axes, [task.name for task in tasks])


def methods_figure(merged: MergedResults, task: MergedTask) -> Figure:
    """Draw the test AUROC of every method on one concept, with its controls."""
    found = merged.only(saes=list(task.saes))
    methods = list(dict.fromkeys(name for sae in task.saes.values() for name in sae.probes if not is_control(name)))
    figure, axes = panel(height=rows_height(len(methods), len(task.saes)))
    of_codes = [(task, "" if method in ON_ACTIVATIONS else method) for method in methods]
    _draw_codes(axes, found, of_codes, offsets(len(found.saes)))
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
        draw_intervals(axes, _points(rows, of_sae, at), style[sae.name], label=sae.variant)
    for of_sae, at in zip(probes, places, strict=True):
        for ending in _CONTROLS:
            _draw_control(axes, _points(rows, of_sae, at, ending), ending)


def _draw_activations(axes: Axes, rows: _Rows, at: float, *, controls: bool = False) -> None:
    """Draw a star for each probe on activations: one per row, or one per SAE if they differ."""
    by_row = [list(activation_probes(task).values()) for task, _ in rows]
    most = max(map(len, by_row))
    for index, offset in enumerate(offsets(most) if most > 1 else [at]):
        probes = [found[index] if index < len(found) else {} for found in by_row]
        draw_intervals(axes, _points(rows, probes, offset), Mark(INK, "*"), label="probe on activations")
        if controls:
            _draw_control(axes, _points(rows, probes, offset, PERMUTED), PERMUTED)


def _draw_control(axes: Axes, points: Sequence[tuple[float, Interval]], ending: str) -> None:
    label, marker = _CONTROLS[ending]
    draw_intervals(axes, points, Mark(GREY, marker), label=label, alpha=0.7, zorder=1)


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
    """Name the rows and draw the line of chance; the axis goes from 0.3 or the lowest interval's end to 1."""
    axes.axvline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_xlabel("AUROC on test")
    axes.set_xlim(min(0.3, axes.dataLim.x0) - 0.02, 1.02)
    name_rows(axes, names)
    legend_below(figure)
    return figure
