"""How figures for papers look: matplotlib, a palette that is told apart by every common kind of colour vision, real text."""

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from sae_lens_abstopk.evaluation.reports.merged_results import MergedResults
from sae_lens_abstopk.evaluation.results.schema import Interval
from sae_lens_abstopk.system.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY, INK = "#767676", "#1b1d20"
# Okabe and Ito (2008); their yellow is too pale for lines
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")
PANEL_WIDTH, PANEL_HEIGHT = 3.3, 2.5
"""Inches of one panel: one column of a two-column paper."""
_LEGEND_ROW = 0.17
_CHARACTERS = 44
"""Of a title or the name of an axis that fit beside a panel, at the size of the text."""
_STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "savefig.dpi": 300,
    "svg.fonttype": "none",  # text that can be searched and edited
    "pdf.fonttype": 42,
    "svg.hashsalt": "abstopk",  # the same results give the same file
    "text.parse_math": False,  # a dollar sign in the name of a task is a dollar sign
}


class Mark(NamedTuple):
    """Colour and marker of one variant."""

    colour: str
    marker: str


@contextmanager
def paper_style() -> Iterator[None]:
    """
    matplotlib in the style of the figures, whatever the user's own is.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        import matplotlib
        import matplotlib.style
    except ImportError:
        raise ConfigError("figures need matplotlib: pip install 'sae-lens-abstopk[plot]'.") from None
    with matplotlib.style.context("default"), matplotlib.rc_context(_STYLE):
        yield


def panels(rows: int, columns: int, *, height: float = PANEL_HEIGHT) -> "tuple[Figure, Any]":
    """An empty figure and its axes [rows, columns]; no window is ever opened."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(PANEL_WIDTH * columns, height * rows), layout="constrained")
    FigureCanvasAgg(made)
    return made, made.subplots(rows, columns, squeeze=False)


def fitted(name: str) -> str:
    """A title or the name of an axis on as many lines as a panel has room for; names of SAEs are broken where they have to be."""
    return textwrap.fill(name, _CHARACTERS, break_on_hyphens=False)


def marks(merged: MergedResults) -> Mapping[str, Mark]:
    """By SAE; the seeds of one variant share a mark."""
    variants = list(dict.fromkeys(sae.variant for sae in merged.saes))
    return {sae.name: mark_of(variants.index(sae.variant)) for sae in merged.saes}


def mark_of(index: int) -> Mark:
    """Of the variant or method of this number; those that share a colour have different markers."""
    return Mark(_PALETTE[index % len(_PALETTE)], _MARKERS[(index + index // len(_PALETTE)) % len(_MARKERS)])


def draw_intervals(
    axes: "Axes",
    intervals: Sequence[Interval],
    heights: Sequence[float],
    mark: Mark,
    *,
    hollow: bool = False,
    **kwargs: Any,
) -> None:
    """A marker with its interval for each of ``intervals`` that has a value; the label is drawn once."""
    for interval, height in zip(intervals, heights, strict=True):
        if interval.value is None:
            continue
        low = interval.value if interval.low is None else interval.low
        high = interval.value if interval.high is None else interval.high
        axes.errorbar(
            [interval.value],
            [height],
            xerr=[[max(interval.value - low, 0)], [max(high - interval.value, 0)]],
            fmt=mark.marker,
            color=mark.colour,
            markerfacecolor="white" if hollow else mark.colour,
            elinewidth=0.8,
            markeredgewidth=0.8,
            **kwargs,
        )
        kwargs.pop("label", None)


def name_rows(axes: "Axes", names: Sequence[str]) -> None:
    """Name the heights 0, 1, ... of the y axis, the first on top."""
    axes.set_yticks(range(len(names)), labels=list(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    for between in range(1, len(names)):
        axes.axhline(between - 0.5, color=GREY, linewidth=0.3)


def legend_below(figure: "Figure", axes: "Axes | Sequence[Axes]") -> None:
    """One legend for all panels, under them, each name once."""
    found: dict[str, Any] = {}
    for each in axes if isinstance(axes, Sequence) else [axes]:
        for handle, label in zip(*each.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    longest = max((len(label) for label in found), default=1)
    columns = max(1, min(len(found), int(figure.get_figwidth() / (0.055 * longest + 0.45))))
    figure.set_figheight(figure.get_figheight() + _LEGEND_ROW * math.ceil(len(found) / columns))
    figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=columns)
