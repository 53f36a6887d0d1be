"""How the plots of a report look: one style that can be read on a light and on a dark page."""

import html
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import plotly.graph_objects as go

from sae_lens_abstopk.evaluation.reports.merged_results import MergedResults
from sae_lens_abstopk.evaluation.results.schema import Interval

# every colour has a contrast of at least 3 on white and on the dark page; blue and orange are kept for the poles
POLE_COLOURS = ("#d9730d", "#3b82d6")
"""Of pole A and of pole B, towards which positive strengths go."""
GREY = "#868e96"
_SAE_COLOURS = (
    *("#8b6fd6", "#12978a", "#d0528f", "#7d8f2a", "#a8763e"),
    *("#5f7f9f", "#c2504a", "#4c9a4c", "#2f9fc4", "#b08900"),
)
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
_LONGEST_LABEL = 28
_GLYPHS = {
    "circle": "●",
    "square": "■",
    "diamond": "◆",
    "triangle-up": "▲",
    "cross": "✚",
    "star": "★",
    "hexagram": "✶",
    "circle-open": "○",
    "square-open": "□",
    "diamond-open": "◇",
    "x-thin-open": "✕",
}


class LegendEntry(NamedTuple):
    """What a colour and a marker stand for."""

    glyph: str
    colour: str
    name: str


@dataclass(frozen=True)
class Plot:
    """A figure with the sentence that says what it shows and what it does not."""

    title: str
    caption: str
    figure: go.Figure

    @property
    def legend(self) -> list[LegendEntry]:
        """Of the traces that are to be named, for the page to write; several seeds of a variant go by the first marker."""
        named = [trace for trace in traces(self.figure) if trace.showlegend]
        symbols = [mark if isinstance(mark, str) else mark[0] for mark in (trace.marker.symbol for trace in named)]
        return [
            LegendEntry(_GLYPHS[symbol], trace.marker.color or trace.line.color, html.unescape(trace.name))
            for trace, symbol in zip(named, symbols, strict=True)
        ]


def traces(of: go.Figure) -> Sequence[Any]:
    """What is drawn in a figure; plotly's own attribute has no type to speak of."""
    return cast("Sequence[Any]", of.data)


@dataclass(frozen=True)
class Look:
    """Colour and marker of an SAE: one colour a variant, one marker a seed; no two SAEs share both while there are enough."""

    colour: str
    symbol: str


def looks(merged: MergedResults) -> Mapping[str, Look]:
    """By SAE; colours come with markers, for whoever cannot tell them apart."""
    variants: dict[str, list[str]] = {}
    for sae in merged.saes:
        variants.setdefault(sae.variant, []).append(sae.name)
    found: dict[str, Look] = {}
    for index, names in enumerate(variants.values()):
        colour = _SAE_COLOURS[index % len(_SAE_COLOURS)]
        for seed, name in enumerate(names):
            turned = [Look(colour, _SYMBOLS[(index + seed + turn) % len(_SYMBOLS)]) for turn in range(len(_SYMBOLS))]
            found[name] = next((look for look in turned if look not in found.values()), turned[0])
    return found


def variant_colours(merged: MergedResults, names: Collection[str]) -> Mapping[str, Look]:
    """By variant of the SAEs ``names``: a legend for plots whose markers stand for something else than the seed."""
    style = looks(merged)
    found: dict[str, Look] = {}
    for sae in merged.saes:
        if sae.name in names:
            found.setdefault(sae.variant, Look(style[sae.name].colour, "circle"))
    return found


def whole_label(text: str) -> str:
    """Text for plotly, which reads some HTML: escaped, on one line."""
    return html.escape(" ".join(text.split()))


def label(text: str) -> str:
    """The same, cut where it is long, for what stands within a plot."""
    one_line = " ".join(text.split())
    return html.escape(one_line if len(one_line) <= _LONGEST_LABEL else one_line[: _LONGEST_LABEL - 1] + "…")


def figure(*, height: int, x: str | None = None, y: str | None = None) -> go.Figure:
    """An empty figure in the style of the report; ``x`` and ``y`` are axis titles, already escaped."""
    axis = {"gridcolor": "rgba(134,142,150,0.25)", "zerolinecolor": "rgba(134,142,150,0.6)", "automargin": True}
    return go.Figure(
        layout={
            "template": go.layout.Template(),
            "height": height,
            "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": "system-ui, sans-serif", "size": 13, "color": GREY},
            "xaxis": {**axis, "title": {"text": x, "font": {"size": 13}}},
            "yaxis": {**axis, "title": {"text": y, "font": {"size": 13}}},
            "showlegend": False,  # a legend within it would take its room on a small screen; see Plot.legend
            "dragmode": False,  # a finger on a plot scrolls the page
        }
    )


def add_intervals(
    to: go.Figure,
    name: str,
    intervals: Sequence[Interval],
    y: Sequence[float],
    labels: Sequence[str],
    *,
    look: Look,
    shown: bool = True,
    faint: bool = False,
) -> None:
    """One marker with its interval for each of ``intervals`` that has a value, at the heights ``y``."""
    kept = [(each, at, text) for each, at, text in zip(intervals, y, labels, strict=True) if each.value is not None]
    if not kept:
        return
    values = [each.value or 0.0 for each, _, _ in kept]
    highs = [value if each.high is None else each.high for (each, _, _), value in zip(kept, values, strict=True)]
    lows = [value if each.low is None else each.low for (each, _, _), value in zip(kept, values, strict=True)]
    above = [max(high - value, 0) for high, value in zip(highs, values, strict=True)]
    below = [max(value - low, 0) for low, value in zip(lows, values, strict=True)]
    to.add_scatter(
        x=values,
        y=[at for _, at, _ in kept],
        error_x={"array": above, "arrayminus": below, "thickness": 1 if faint else 1.5, "width": 0},
        mode="markers",
        marker={"color": look.colour, "symbol": look.symbol, "size": 6 if faint else 9},
        opacity=0.7 if faint else 1,
        name=whole_label(name),
        legendgroup=name,
        showlegend=shown,
        text=[f"{html.escape(text)}: {each}" for each, _, text in kept],
        hoverinfo="text",
    )


def add_legend(to: go.Figure, entries: Mapping[str, Look]) -> None:
    """Legend entries of their own, for plots in which colour and marker mean different things."""
    for name, look in entries.items():
        to.add_scatter(
            x=[None],
            y=[None],
            mode="markers",
            marker={"color": look.colour, "symbol": look.symbol, "size": 9},
            name=whole_label(name),
            showlegend=True,
            hoverinfo="skip",
        )


def rows_axis(to: go.Figure, names: Sequence[str]) -> None:
    """Name the heights 0, 1, ... of the y axis, the first on top, with a rule between them."""
    count = len(names)
    to.update_yaxes(
        tickvals=list(range(count)),
        ticktext=[label(name) for name in names],
        range=[count - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
    )
    for between in range(1, count):
        to.add_hline(y=between - 0.5, line={"color": "rgba(134,142,150,0.25)", "width": 1})


def offsets(count: int) -> list[float]:
    """Heights within a row for ``count`` things side by side."""
    return [(index + 0.5) / count * 0.8 - 0.4 for index in range(count)]


def rows_height(rows: int, in_each: int) -> int:
    """Pixels that ``rows`` rows of ``in_each`` markers need."""
    return 60 + rows * max(26, 13 * in_each + 8)
