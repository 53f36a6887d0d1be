"""Plots about probing: AUROC by concept and by method, pole coverage by concept."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from sae_lens_abstopk.evaluation.probing.method_names import (
    BEST_COVERAGE,
    ON_ACTIVATIONS,
    PAIR,
    PERMUTED,
    SINGLE,
    UNTRAINED,
    is_control,
)
from sae_lens_abstopk.evaluation.reports.merged_results import MergedResults, MergedTask
from sae_lens_abstopk.evaluation.reports.plot_style import (
    GREY,
    Look,
    Plot,
    add_intervals,
    add_legend,
    figure,
    looks,
    offsets,
    rows_axis,
    rows_height,
    traces,
    variant_colours,
)
from sae_lens_abstopk.evaluation.reports.task_tables import activation_probes
from sae_lens_abstopk.evaluation.results.schema import ProbeRecord

_CONTROLS = {PERMUTED: Look(GREY, "circle-open"), UNTRAINED: Look(GREY, "x-thin-open")}
_ON_X = Look("#4f7fa8", "hexagram")
_COVERED = ((SINGLE, "circle"), (BEST_COVERAGE, "diamond"), (PAIR, "square-open"))


def auroc_plot(merged: MergedResults, method: str) -> Plot | None:
    """AUROC of one method on codes, one row a concept, with its controls and the probes on activations."""
    tasks = [task for task in merged.tasks if any(method in record.probes for record in task.saes.values())]
    if not tasks:
        return None
    style, names = looks(merged), merged.names
    drawn = figure(height=rows_height(len(tasks), len(names)), x="AUROC on test")
    heights = dict(zip(names, offsets(len(names)), strict=True))
    for ending, look in _CONTROLS.items():
        _add(drawn, f"control{ending}", _points(tasks, method + ending, heights), look, faint=True)
    for name in names:
        _add(drawn, name, _points(tasks, method, {name: heights[name]}), style[name])
    on_x = [
        (row, probes[ON_ACTIVATIONS[-1]], f"{called}, {ON_ACTIVATIONS[-1]} on activations")
        for row, task in enumerate(tasks)
        for called, probes in activation_probes(task)
        if ON_ACTIVATIONS[-1] in probes
    ]
    _add(drawn, ON_ACTIVATIONS[-1], on_x, _ON_X)
    rows_axis(drawn, [task.name for task in tasks])
    _chance(drawn)
    what = "best single latent" if method == SINGLE else "best pair of sides, one per pole"
    return Plot(
        f"AUROC of the {what}",
        f"How well the {what}, chosen on train, tells the poles apart on test texts, with 95 % intervals that resample "
        "groups of texts; grey are controls (permuted poles, mean and range; an SAE with fresh weights), the blue star is logistic regression on "
        "the activations. A high AUROC needs no two sides: one that fires for a single pole has it too.",
        drawn,
    )


def methods_plot(merged: MergedResults, task: MergedTask) -> Plot:
    """AUROC of every method on one concept."""
    style = looks(merged)
    probes = {name: record.probes for name, record in task.saes.items()}
    methods = list(dict.fromkeys(name for found in probes.values() for name in found if not is_control(name)))
    drawn = figure(height=rows_height(len(methods), len(probes)), x="AUROC on test")
    heights = dict(zip(probes, offsets(len(probes)), strict=True))
    activations = dict(activation_probes(task))
    for ending, look in _CONTROLS.items():
        points = [
            (row + heights[sae], found[method + ending], f"{sae}, {method}{ending}")
            for row, method in enumerate(methods)
            for sae, found in probes.items()
            if method + ending in found and method not in ON_ACTIVATIONS
        ]
        points += [
            (row + at, found[method + ending], f"{method}{ending}")
            for found, at in zip(activations.values(), offsets(len(activations)), strict=True)
            for row, method in enumerate(methods)
            if method in ON_ACTIVATIONS and method + ending in found
        ]
        _add(drawn, f"control{ending}", points, look, faint=True)
    for sae, found in probes.items():
        points = [
            (row + heights[sae], found[method], f"{sae}, {method}")
            for row, method in enumerate(methods)
            if method in found and method not in ON_ACTIVATIONS
        ]
        _add(drawn, sae, points, style[sae])
    points = [
        (row + at, found[method], method)
        for found, at in zip(activations.values(), offsets(len(activations)), strict=True)
        for row, method in enumerate(methods)
        if method in ON_ACTIVATIONS and method in found
    ]
    _add(drawn, "activations", points, _ON_X)
    rows_axis(drawn, methods)
    _chance(drawn)
    return Plot(
        f"{task.name}: every method",
        f"{task.record.poles[0]} (A) against {task.record.poles[1]} (B) on {task.record.texts[2]:,} test texts of "
        f"{task.record.test_groups} groups, which is what the intervals resample. Grey points are controls: as far as they "
        "are from 0.5, the other results may be due to chance or the texts.",
        drawn,
    )


def coverage_plot(merged: MergedResults) -> Plot | None:
    """Pole coverage, one row a concept, with the bound of a non-negative latent."""
    tasks = [task for task in merged.tasks if task.saes]
    if not tasks:
        return None
    style, names = looks(merged), merged.names
    drawn = figure(height=rows_height(len(tasks), 3 * len(names)), x="pole coverage on test")
    for index, name in enumerate(names):
        for kind, (called, symbol) in enumerate(_COVERED):
            at = offsets(3 * len(names))[3 * index + kind]
            found = [
                (row + at, (task.saes[name].latent, task.saes[name].best_coverage, task.saes[name].pair)[kind].coverage)
                for row, task in enumerate(tasks)
                if name in task.saes
            ]
            add_intervals(
                drawn,
                f"{name}, {called}",
                [interval for _, interval in found],
                [height for height, _ in found],
                [f"{name}, {called}"] * len(found),
                look=Look(style[name].colour, symbol),
                shown=False,
            )
    add_legend(drawn, variant_colours(merged, names))
    add_legend(drawn, {called: Look(GREY, symbol) for called, symbol in _COVERED})
    rows_axis(drawn, [task.name for task in tasks])
    drawn.update_xaxes(range=[-0.02, 1.02])
    drawn.add_vline(x=0.5, line={"color": GREY, "dash": "dash", "width": 1.5})
    return Plot(
        "Pole coverage",
        "Share of the texts of both poles on which a latent fires, with a different side for each; a non-negative latent "
        "cannot exceed the dashed line at 0.5, but a pair of them can. 95 % intervals resample groups of texts.",
        drawn,
    )


def _points(
    tasks: Sequence[MergedTask], method: str, heights: Mapping[str, float]
) -> list[tuple[float, ProbeRecord, str]]:
    """A method of the SAEs in ``heights``, one row a task."""
    return [
        (row + at, task.saes[name].probes[method], f"{task.name}, {name}, {method}")
        for row, task in enumerate(tasks)
        for name, at in heights.items()
        if name in task.saes and method in task.saes[name].probes
    ]


def _add(
    to: go.Figure, name: str, points: Sequence[tuple[float, ProbeRecord, str]], look: Look, *, faint: bool = False
) -> None:
    add_intervals(
        to,
        name,
        [probe.auroc for _, probe, _ in points],
        [height for height, _, _ in points],
        [text for _, _, text in points],
        look=look,
        faint=faint,
    )


def _chance(to: go.Figure) -> None:
    """The line of chance, on an axis from 0.3, or the lowest value or end of an interval, to 1."""
    lows = [x - below for each in traces(to) for x, below in zip(each.x, each.error_x.arrayminus, strict=True)]
    to.update_xaxes(range=[min([0.3, *lows]) - 0.02, 1.02])
    to.add_vline(x=0.5, line={"color": GREY, "dash": "dot", "width": 1.5})
