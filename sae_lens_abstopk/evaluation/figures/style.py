"""The style of all static figures: matplotlib, a colour-blind safe palette, searchable text."""

import hashlib
import io
import math
import re
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sae_lens_abstopk.evaluation.results.merging import MergedResults

GREY, INK = "#767676", "#000000"
"""Colours of controls and rules, and of text; a page draws black in its own text colour."""
POLE_COLOURS = ("#d9730d", "#3b82d6")
"""Colours of pole A and pole B."""
# after Okabe and Ito (2008), pale colours darkened to a contrast of at least 3 on white and on a dark page
_PALETTE = (
    *("#0072b2", "#d55e00", "#009e73", "#c4639a", "#b07c00"),
    *("#3a93c8", "#8b6fd6", "#7d8f2a", "#c2504a", "#5f7f9f"),
)
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")
PANEL_WIDTH, PANEL_HEIGHT = 3.3, 2.5
"""Size of one panel in inches: one column of a two-column paper."""
_LEGEND_ROW = 0.17
_TITLE = 44
"""Most characters per line of a title."""
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
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "savefig.dpi": 300,
    "svg.fonttype": "none",  # searchable, editable text
    "pdf.fonttype": 42,
    "svg.hashsalt": "abstopk",  # so that the same results give the same file
    "text.parse_math": False,  # a dollar sign in a task's name is not mathematics
}


class Mark(NamedTuple):
    """Colour and marker of one variant."""

    colour: str
    marker: str


@contextmanager
def paper_style() -> Iterator[None]:
    """Set matplotlib to the style of the figures, not the user's own."""
    with matplotlib.style.context("default"), mpl.rc_context(_STYLE):
        yield


def panels(rows: int, columns: int, *, height: float = PANEL_HEIGHT) -> tuple[Figure, Any]:
    """Make an empty figure and its axes [rows, columns], without a window."""
    made = Figure(figsize=(PANEL_WIDTH * columns, height * rows), layout="constrained")
    FigureCanvasAgg(made)
    return made, made.subplots(rows, columns, squeeze=False)


def panel(*, height: float = PANEL_HEIGHT) -> tuple[Figure, Axes]:
    """Make an empty figure of one panel, and its axes."""
    made, ((axes,),) = panels(1, 1, height=height)
    return made, axes


def fitted(name: str) -> str:
    """Wrap a title or an axis label to the lines that a panel has; break long SAE names."""
    return textwrap.fill(name, _TITLE, break_on_hyphens=False)


def marks(merged: MergedResults) -> Mapping[str, Mark]:
    """Return the mark of each SAE; seeds of one variant share it, and all figures of the same results agree."""
    return {sae.name: mark_of(merged.variants.index(sae.variant)) for sae in merged.saes}


def mark_of(index: int) -> Mark:
    """Return the mark of a variant or method by number; marks with the same colour differ in their markers."""
    return Mark(_PALETTE[index % len(_PALETTE)], _MARKERS[(index + index // len(_PALETTE)) % len(_MARKERS)])


def legend_below(figure: Figure) -> None:
    """Draw one legend under all panels, each name once."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if not found:
        return
    longest = max(len(label) for label in found)
    columns = max(1, min(len(found), int(figure.get_figwidth() / (0.055 * longest + 0.45))))
    figure.set_figheight(figure.get_figheight() + _LEGEND_ROW * math.ceil(len(found) / columns))
    figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=columns)


def inline_svg(figure: Figure) -> str:
    """Return the figure as an SVG element for a page: transparent, with ids that no other figure has."""
    engine = figure.get_layout_engine()
    if engine is not None:  # lay out here, so that the figure is drawn only once
        engine.execute(figure)
        figure.set_layout_engine("none")
    written = io.StringIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(written, format="svg", transparent=True, metadata=metadata)
    # ids must be unique on a page: markers and clip paths get a suffix, the others are not used
    svg = re.sub(r' id="(?![mp][0-9a-f]{10}")[^"]*"', "", written.getvalue().partition("<svg")[2])
    digest = hashlib.sha256(svg.encode()).hexdigest()[:8]
    return "<svg" + re.sub(r'((?:id="|#)[mp][0-9a-f]{10})(?=[")])', rf"\g<1>{digest}", svg)
