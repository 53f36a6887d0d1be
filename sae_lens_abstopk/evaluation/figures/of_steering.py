"""Figures about steering: response to the dose, and effect against neutral cost; a panel for each concept and SAE."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sae_lens_abstopk.evaluation.figures.style import GREY, Mark, fitted, legend_below, mark_of, panels
from sae_lens_abstopk.evaluation.reports.merged_results import MergedResults, MergedTask
from sae_lens_abstopk.evaluation.reports.steering_tables import shown_name, split_random
from sae_lens_abstopk.evaluation.results.schema import DoseRecord, SteeringRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ORDER = ("latent", "difference_in_means", "clamp")
_DASHES = ("-", "--", ":", "-.")


class _Curve(NamedTuple):
    """How one intervention is drawn."""

    mark: Mark
    label: str
    dash: str = "-"
    hollow: bool = False
    """Larger and open, so that what lies beneath is seen."""


def dose_response_figure(merged: MergedResults) -> "Figure | None":
    """Log-odds of pole B against strength, means over test prompts; random directions grey, the dotted line unsteered."""

    def draw(axes: "Axes", task: MergedTask, record: SteeringRecord) -> None:
        for doses, look in _curves(record):
            _line(axes, [dose.strength for dose in doses], [dose.log_odds for dose in doses], look)
        axes.axhline(record.baseline_log_odds, color=GREY, linewidth=0.8, linestyle=":")
        a, b = task.record.poles
        axes.set_xlabel(fitted(f"← {a}   strength   {b} →"))
        axes.set_ylabel(fitted(f"log-odds of {b}"))

    return _grid(merged, draw)


def effect_cost_figure(merged: MergedResults) -> "Figure | None":
    """Change of the log-odds of pole B against the rise of the NLL of neutral text, each direction a line of its own."""

    def draw(axes: "Axes", task: MergedTask, record: SteeringRecord) -> None:
        for doses, look in _curves(record):
            for sign in (-1, 1):
                ordered = sorted(
                    (dose for dose in doses if dose.strength * sign >= 0), key=lambda dose: abs(dose.strength)
                )
                _line(
                    axes,
                    [dose.neutral_nll - record.baseline_neutral_nll for dose in ordered],
                    [dose.log_odds - record.baseline_log_odds for dose in ordered],
                    look,
                    named=sign > 0,
                )
        axes.axhline(0, color=GREY, linewidth=0.8, linestyle=":")
        axes.set_xlabel("cost on neutral text, nats per token")
        axes.set_ylabel(fitted(f"change of the log-odds of {task.record.poles[1]}"))

    return _grid(merged, draw)


def _grid(merged: MergedResults, draw: "Callable[[Axes, MergedTask, SteeringRecord], None]") -> "Figure | None":
    """A column for each concept that was steered, a row for each SAE."""
    tasks = [task for task in merged.tasks if task.steering]
    saes = [name for name in merged.names if any(name in task.steering for task in tasks)]
    if not saes:
        return None
    drawn, grid = panels(len(saes), len(tasks))
    for row, name in zip(grid, saes, strict=True):
        for axes, task in zip(row, tasks, strict=True):
            if name not in task.steering:
                axes.set_axis_off()
                continue
            draw(axes, task, task.steering[name])
            axes.set_title(fitted(f"{task.name}, {name}, latent {task.steering[name].latent}"))
    legend_below(drawn, list(grid.flat))
    return drawn


def _curves(record: SteeringRecord) -> Iterator[tuple[list[DoseRecord], _Curve]]:
    """Interventions with their doses; the random directions first, so that they lie beneath."""
    compared, random = split_random(record)
    for found in random.values():
        yield found.doses, _Curve(Mark(GREY, "."), "random")
    order = [*(name for name in _ORDER if name in compared), *(name for name in compared if name not in _ORDER)]
    for index, name in enumerate(order):
        # a latent and the same latent clamped often coincide
        look = _Curve(mark_of(index), shown_name(name), _DASHES[index % len(_DASHES)], hollow=name == "clamp")
        yield compared[name].doses, look


def _line(axes: "Axes", x: Sequence[float], y: Sequence[float], look: _Curve, *, named: bool = True) -> None:
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
