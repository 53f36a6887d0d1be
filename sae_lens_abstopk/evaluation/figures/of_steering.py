"""Figures of steering: response to the dose, effect against neutral cost, and symmetry."""

from collections.abc import Callable, Iterator
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sae_lens_abstopk.evaluation.figures.intervals import kinds_figure
from sae_lens_abstopk.evaluation.figures.style import GREY, fitted, legend_below, mark_of, panels
from sae_lens_abstopk.evaluation.results.merging import MergedResults, MergedTask
from sae_lens_abstopk.evaluation.results.records import DoseRecord, Interval, SteeringRecord, shown_name

_ORDER = ("latent", "difference_in_means", "clamp")
_DASHES = ("-", "--", ":", "-.")


def dose_response_figure(merged: MergedResults) -> Figure | None:
    """Draw the mean log-odds of pole B against strength; the dotted line is the unsteered model."""

    def draw(axes: Axes, task: MergedTask, record: SteeringRecord) -> None:
        for doses, style in _curves(record):
            axes.plot([dose.strength for dose in doses], [dose.log_odds for dose in doses], **style)
        axes.axhline(record.baseline_log_odds, color=GREY, linewidth=0.8, linestyle=":")
        a, b = task.record.poles
        axes.set_xlabel(fitted(f"← {a}\u2003strength\u2003{b} →"))
        axes.set_ylabel(fitted(f"log-odds of {b}"))

    return _grid(merged, draw)


def effect_cost_figure(merged: MergedResults) -> Figure | None:
    """Draw the change of the log-odds of pole B against the rise of neutral NLL, one line per direction."""

    def draw(axes: Axes, task: MergedTask, record: SteeringRecord) -> None:
        for doses, style in _curves(record):
            unnamed: dict[str, Any] = style | {"label": None}
            for sign, look in ((-1, unnamed), (1, style)):
                one_side = [dose for dose in doses if dose.strength * sign >= 0]
                ordered = sorted(one_side, key=lambda dose: abs(dose.strength))
                costs = [dose.neutral_nll - record.baseline_neutral_nll for dose in ordered]
                changes = [dose.log_odds - record.baseline_log_odds for dose in ordered]
                axes.plot(costs, changes, **look)
        axes.axhline(0, color=GREY, linewidth=0.8, linestyle=":")
        axes.set_xlabel("cost on neutral text, nats per token")
        axes.set_ylabel(fitted(f"change of the log-odds of {task.record.poles[1]}"))

    return _grid(merged, draw)


def symmetry_figure(merged: MergedResults) -> Figure | None:
    """Draw the symmetry of both directions at matched cost."""

    def interval(task: MergedTask, sae: str, kind: str) -> Interval | None:
        found = task.steering[sae].interventions if sae in task.steering else {}
        return next((each.symmetry for name, each in found.items() if shown_name(name) == kind), None)

    tasks = [task for task in merged.tasks if task.steering]
    steered = [name for name in merged.names if any(name in task.steering for task in tasks)]
    if not steered:
        return None
    names = dict.fromkeys(name for task in tasks for record in task.steering.values() for name in _compared(record))
    kinds = {shown_name(name): (mark_of(index).marker, name == "clamp") for index, name in enumerate(names)}
    return kinds_figure(merged.only(saes=steered), tasks, kinds, interval, x="symmetry")


def _grid(merged: MergedResults, draw: Callable[[Axes, MergedTask, SteeringRecord], None]) -> Figure | None:
    """Draw a grid with a column for each steered concept and a row for each SAE."""
    tasks = [task for task in merged.tasks if task.steering]
    saes = [name for name in merged.names if any(name in task.steering for task in tasks)]
    if not saes:
        return None
    figure, grid = panels(len(saes), len(tasks))
    for row, name in zip(grid, saes, strict=True):
        for axes, task in zip(row, tasks, strict=True):
            if name not in task.steering:
                axes.set_axis_off()
                continue
            draw(axes, task, task.steering[name])
            axes.set_title(fitted(f"{task.name}, {name}, latent {task.steering[name].latent}"))
    legend_below(figure)
    return figure


def _compared(record: SteeringRecord) -> list[str]:
    """Return the interventions except random directions, always in the same order."""
    names = record.split_random()[0]
    return [*(name for name in _ORDER if name in names), *(name for name in names if name not in _ORDER)]


def _curves(record: SteeringRecord) -> Iterator[tuple[list[DoseRecord], dict[str, Any]]]:
    """Yield the doses of interventions and the style of their line; random directions first, to lie beneath."""
    for found in record.split_random()[1].values():
        style = {"marker": ".", "color": GREY, "linewidth": 0.7, "markersize": 3, "alpha": 0.7}
        yield found.doses, style | {"label": "random"}
    for index, name in enumerate(_compared(record)):
        mark, dash = mark_of(index), _DASHES[index % len(_DASHES)]
        style = {"marker": mark.marker, "color": mark.colour, "linestyle": dash, "linewidth": 1.2}
        # a latent and the same latent clamped often coincide: large open markers show the curve beneath
        style |= {"markersize": 7, "markerfacecolor": "none"} if name == "clamp" else {"markersize": 4}
        yield record.interventions[name].doses, style | {"label": shown_name(name)}
