"""Plots about steering: dose-response, effect against cost, symmetry."""

import html
from collections.abc import Sequence

import plotly.graph_objects as go

from sae_lens_abstopk.evaluation.reports.merged_results import MergedResults, MergedTask
from sae_lens_abstopk.evaluation.reports.plot_style import (
    GREY,
    Look,
    Plot,
    add_intervals,
    add_legend,
    figure,
    label,
    looks,
    offsets,
    rows_axis,
    rows_height,
    traces,
    variant_colours,
)
from sae_lens_abstopk.evaluation.reports.steering_tables import shown_name, split_random
from sae_lens_abstopk.evaluation.results.schema import DoseRecord, SteeringRecord

_LINES = {
    "latent": ("#8b6fd6", "solid", "circle"),
    "clamp": ("#12978a", "dash", "square"),
    "difference_in_means": ("#d0528f", "dashdot", "diamond"),
}
_OTHER, _RANDOM = ("#a8763e", "longdash", "cross"), (GREY, "dot", "circle-open")


def dose_response_plot(task: MergedTask, sae: str) -> Plot:
    """Log-odds against strength, one line an intervention."""
    record = task.steering[sae]
    a, b = (label(pole) for pole in task.record.poles)
    drawn = figure(
        height=340,
        x=f"← {a} (A) strength {b} (B) →",
        y="log-odds of B",
    )
    drawn.add_hline(y=record.baseline_log_odds, line={"color": GREY, "dash": "dot", "width": 1})
    for name, doses, style in _curves(record):
        _line(drawn, name, [dose.strength for dose in doses], [dose.log_odds for dose in doses], doses, style)
    return Plot(
        "Dose and response",
        f"Log-odds between the tokens of the poles after {record.prompts[1]} test prompts, at every strength of latent "
        f"{record.latent} and of directions added with the same norm; grey are random directions, the dotted line is the "
        "unsteered model. Means, without intervals: those at matched cost are in the table.",
        drawn,
    )


def effect_cost_plot(task: MergedTask, sae: str) -> Plot:
    """Change of the log-odds against the cost on neutral text."""
    record = task.steering[sae]
    drawn = figure(height=340, x="cost, nats per token", y="change of the log-odds of B")
    for name, doses, style in _curves(record):
        for side, sign in enumerate((-1, 1)):
            ordered = sorted((dose for dose in doses if dose.strength * sign >= 0), key=lambda dose: abs(dose.strength))
            _line(
                drawn,
                name,
                [dose.neutral_nll - record.baseline_neutral_nll for dose in ordered],
                [dose.log_odds - record.baseline_log_odds for dose in ordered],
                ordered,
                style,
                shown=side == 0,
            )
    return Plot(
        "Effect against cost",
        "What a dose moves, up towards B and down towards A, against what it costs: the rise of the steered model's NLL of "
        "neutral text, at which strengths are matched. Steeper is better; a cost of a nat or more is a broken model.",
        drawn,
    )


def symmetry_plot(merged: MergedResults) -> Plot | None:
    """Symmetry at matched cost, one row a concept."""
    tasks = [task for task in merged.tasks if task.steering]
    if not tasks:
        return None
    style, names = looks(merged), [name for name in merged.names if any(name in task.steering for task in tasks)]
    kinds = list(
        dict.fromkeys(kind for task in tasks for record in task.steering.values() for kind in split_random(record)[0])
    )
    places = offsets(len(names) * len(kinds))
    drawn = figure(height=rows_height(len(tasks), len(places)), x="symmetry")
    for index, name in enumerate(names):
        for kind, intervention in enumerate(kinds):
            points = [
                (row, task.steering[name].interventions[intervention].symmetry, task.name)
                for row, task in enumerate(tasks)
                if name in task.steering and intervention in task.steering[name].interventions
            ]
            called = f"{name}, {shown_name(intervention)}"
            add_intervals(
                drawn,
                called,
                [interval for _, interval, _ in points],
                [row + places[index * len(kinds) + kind] for row, _, _ in points],
                [f"{task}, {called}" for _, _, task in points],
                look=Look(style[name].colour, _LINES.get(intervention, _OTHER)[2]),
                shown=False,
            )
    add_legend(drawn, variant_colours(merged, names))
    add_legend(drawn, {shown_name(kind): Look(GREY, _LINES.get(kind, _OTHER)[2]) for kind in kinds})
    rows_axis(drawn, [task.name for task in tasks])
    drawn.update_xaxes(range=[-0.02, 1.02])
    return Plot(
        "Symmetry",
        "The weaker of the two effects on the log-odds over the stronger, at matched cost: 1 if both are equally strong, 0 "
        "if both push to the same pole. 95 % intervals resample prompts; the table marks what is not at matched cost. The ratio does not show how large the effects are.",
        drawn,
    )


def _curves(record: SteeringRecord) -> list[tuple[str, list[DoseRecord], tuple[str, str, str]]]:
    """Interventions with their doses; the random directions first, so that they lie beneath."""
    compared, random = split_random(record)
    return [(name, found.doses, _RANDOM) for name, found in random.items()] + [
        (name, found.doses, _LINES.get(name, _OTHER)) for name, found in compared.items()
    ]


def _line(
    to: go.Figure,
    name: str,
    x: Sequence[float],
    y: Sequence[float],
    doses: Sequence[DoseRecord],
    style: tuple[str, str, str],
    *,
    shown: bool = True,
) -> None:
    colour, dash, symbol = style
    group = "random" if style is _RANDOM else shown_name(name)
    first = not any(trace.legendgroup == group for trace in traces(to))
    to.add_scatter(
        x=[None if value != value else value for value in x],
        y=[None if value != value else value for value in y],
        mode="lines+markers",
        line={"color": colour, "dash": dash, "width": 1 if style is _RANDOM else 2},
        marker={"symbol": symbol, "size": 5 if style is _RANDOM else 7},
        name=label(group),
        legendgroup=group,
        showlegend=shown and first,
        text=[
            f"{html.escape(shown_name(name))}, strength {dose.strength:+g}: log-odds {dose.log_odds:.2f}"
            for dose in doses
        ],
        hoverinfo="text",
    )
