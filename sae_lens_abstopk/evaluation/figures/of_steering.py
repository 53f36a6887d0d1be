"""Figures of steering: response to the dose, effect against neutral cost, and symmetry."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sae_lens_abstopk.evaluation.figures.intervals import kinds_figure
from sae_lens_abstopk.evaluation.figures.style import GREY, Mark, fitted, legend_below, mark_of, panels
from sae_lens_abstopk.evaluation.results.merging import MergedResults, MergedTask
from sae_lens_abstopk.evaluation.results.records import DoseRecord, Interval, SteeringRecord, shown_name

_ORDER = ("latent", "difference_in_means", "clamp")
_DASHES = ("-", "--", ":", "-.")


class _Curve(NamedTuple):
    """The style of one intervention."""

    mark: Mark
    label: str
    dash: str = "-"
    hollow: bool = False
    """Whether markers are larger and open, so that a curve beneath shows."""


def dose_response_figure(merged: MergedResults) -> Figure | None:
    """Draw the mean log-odds of pole B against strength; the dotted line is the unsteered model."""

    def draw(axes: Axes, task: MergedTask, record: SteeringRecord) -> None:
        for doses, look in _curves(record):
            _line(axes, [dose.strength for dose in doses], [dose.log_odds for dose in doses], look)
        axes.axhline(record.baseline_log_odds, color=GREY, linewidth=0.8, linestyle=":")
        a, b = task.record.poles
        axes.set_xlabel(fitted(f"← {a}\u2003strength\u2003{b} →"))
        axes.set_ylabel(fitted(f"log-odds of {b}"))

    return _grid(merged, draw)


def effect_cost_figure(merged: MergedResults) -> Figure | None:
    """Draw the change of the log-odds of pole B against the rise of neutral NLL, one line per direction."""

    def draw(axes: Axes, task: MergedTask, record: SteeringRecord) -> None:
        for doses, look in _curves(record):
            for sign in (-1, 1):
                one_side = [dose for dose in doses if dose.strength * sign >= 0]
                ordered = sorted(one_side, key=lambda dose: abs(dose.strength))
                costs = [dose.neutral_nll - record.baseline_neutral_nll for dose in ordered]
                _line(axes, costs, [dose.log_odds - record.baseline_log_odds for dose in ordered], look, named=sign > 0)
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


def _curves(record: SteeringRecord) -> Iterator[tuple[list[DoseRecord], _Curve]]:
    """Yield interventions with their doses; random directions first, so that they lie beneath."""
    for found in record.split_random()[1].values():
        yield found.doses, _Curve(Mark(GREY, "."), "random")
    for index, name in enumerate(_compared(record)):
        # a latent and the same latent clamped often coincide
        look = _Curve(mark_of(index), shown_name(name), _DASHES[index % len(_DASHES)], hollow=name == "clamp")
        yield record.interventions[name].doses, look


def _line(axes: Axes, x: Sequence[float], y: Sequence[float], look: _Curve, *, named: bool = True) -> None:
    faint = look.mark.colour == GREY
    axes.plot(
        x,
        y,
        marker=look.mark.marker,
        color=look.mark.colour,
        linestyle=look.dash,
        label=look.label if named else None,
        linewidth=0.7 if faint else 1.2,
        markersize=3 if faint else 7 if look.hollow else 4,
        markerfacecolor="none" if look.hollow else look.mark.colour,
        alpha=0.7 if faint else 1,
    )
