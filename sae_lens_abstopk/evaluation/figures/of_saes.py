"""Figures about SAEs by themselves: FVU against L0, and how evenly latents fire on both sides."""

from typing import TYPE_CHECKING

from sae_lens_abstopk.evaluation.figures.style import legend_below, marks, panels
from sae_lens_abstopk.evaluation.reports.merged_results import MergedResults

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def fvu_figure(merged: MergedResults) -> "Figure | None":
    """Share of variance unexplained against mean active latents per token, one point an SAE."""
    measured = [(sae, sae.reconstruction) for sae in merged.saes if sae.reconstruction is not None]
    measured = [(sae, found) for sae, found in measured if found.fvu == found.fvu and found.l0 == found.l0]
    if not measured:
        return None
    drawn, ((axes,),) = panels(1, 1)
    style, seen = marks(merged), set()
    for sae, found in measured:
        mark = style[sae.name]
        label = None if sae.variant in seen else sae.variant
        seen.add(sae.variant)
        axes.plot([found.l0], [found.fvu], mark.marker, color=mark.colour, label=label, markersize=5)
    axes.set_xlabel("L0")
    axes.set_ylabel("FVU")
    axes.margins(0.15)
    legend_below(drawn, axes)
    return drawn


def two_sidedness_figure(merged: MergedResults) -> "Figure | None":
    """Histogram over live latents of the share of firings on the weaker side, of SAEs that fire on both; a line a seed."""
    drawn, ((axes,),) = panels(1, 1)
    style, seen = marks(merged), set()
    for index, sae in enumerate(merged.saes):
        if sae.reconstruction is None or sae.reconstruction.two_sidedness == 0:
            continue
        counts = sae.reconstruction.two_sidedness_histogram
        if not sum(counts):
            continue
        width = 0.5 / len(counts)
        axes.stairs(
            [count / sum(counts) for count in counts],
            [width * edge for edge in range(len(counts) + 1)],
            color=style[sae.name].colour,
            linestyle=("-", "--", "-.", ":")[index % 4],
            linewidth=1.2,
            label=None if sae.variant in seen else sae.variant,
        )
        seen.add(sae.variant)
    if not seen:
        return None
    axes.set_xlabel("share of firings on the weaker side")
    axes.set_ylabel("share of live latents")
    axes.set_xlim(0, 0.5)
    axes.set_ylim(bottom=0)
    legend_below(drawn, axes)
    return drawn
