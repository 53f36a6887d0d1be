"""The figure of preferences: the effect of each axis, between the words of its poles."""

from matplotlib.figure import Figure

from sae_lens_abstopk.evaluation.figures.style import GREY, PANEL_WIDTH, POLE_COLOURS, legend_below, panel
from sae_lens_abstopk.pairs.pair_results import PairResults
from sae_lens_abstopk.system.errors import require_given

_ROW, _FRAME = 0.17, 0.6  # inches


def effects_figure(results: PairResults) -> Figure:
    """
    Draw the effect of each axis with its interval in percentage points, largest above; confirmed ones are filled.

    Raises:
        ConfigError: no effect was measured.
    """
    found = ((axis, axis.effect, axis.effect.value) for axis in results.axes if axis.effect)
    measured = [(axis, effect, value) for axis, effect, value in found if value is not None]
    what = f"an effect on preferences in the pairs of {results.data}"
    require_given(what, measured, "give pairs with a column of preferences")
    measured.sort(key=lambda each: each[2])
    figure, axes = panel(height=_FRAME + _ROW * len(measured))
    figure.set_figwidth(2 * PANEL_WIDTH)
    for place, (axis, effect, value) in enumerate(measured):
        low, high = (value if end is None else end for end in (effect.low, effect.high))
        colour = POLE_COLOURS[int(value > 0)]
        axes.errorbar(
            [100 * value],
            [place],
            xerr=[[100 * max(value - low, 0)], [100 * max(high - value, 0)]],
            fmt="o",
            color=colour,
            markerfacecolor=colour if axis.confirmed else "none",
            elinewidth=0.8,
        )
    for fill, label in ((GREY, "confirmed"), ("none", "not confirmed")):
        axes.plot([], [], "o", color=GREY, markerfacecolor=fill, label=label)
    names = [axis.pole_names() for axis, _, _ in measured]
    axes.axvline(0, color=GREY, linewidth=0.6, zorder=0)
    axes.set_ylim(-0.6, len(measured) - 0.4)
    axes.set_yticks(range(len(measured)), [negative for _, negative in names])
    axes.set_xlabel("preferred more often, percentage points per standard deviation")
    right = axes.twinx()
    right.set_ylim(axes.get_ylim())
    right.set_yticks(range(len(measured)), [positive for positive, _ in names])
    for side in (axes, right):
        side.spines["left"].set_visible(False)
        side.tick_params(axis="y", length=0)
    legend_below(figure)
    return figure
