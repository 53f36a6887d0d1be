"""The figure of the map: FVU of signed SAEs against one-sided ones, over latents per dimension."""

from pathlib import Path

from experiments.map.measured import Cells
from sae_lens_abstopk.evaluation.figures.style import GREY, legend_below, mark_of, panels, paper_style


def draw(cells: Cells, path: Path) -> None:
    """Draw a panel against the same width and one against twice the width; a line for each kind of vector and k."""
    ks = sorted({place.k for place in cells.places()})
    widths = sorted({place.f_over_d for place in cells.places()})
    with paper_style():
        figure, axes = panels(1, 2, height=2.6)
        for twice, panel in zip((False, True), axes[0], strict=True):
            places = cells.compared() if twice else cells.places()
            for index, kind in enumerate(cells.kinds()):
                for k in ks:
                    points = [place for place in places if (place.k, place.kind) == (k, kind)]
                    ratios = [cells.difference(place, twice=twice) for place in points]
                    if not points:
                        continue
                    mark = mark_of(index)
                    panel.errorbar(
                        [place.f_over_d for place in points],
                        [100 * ratio.mean for ratio in ratios],
                        yerr=[100 * (ratio.margin or 0) for ratio in ratios],
                        color=mark.colour,
                        marker=mark.marker,
                        markerfacecolor=mark.colour if k == ks[0] else "none",
                        elinewidth=0.6,
                        label=f"{kind}, k = {k}",
                    )
            panel.axhline(0, color=GREY, lw=0.6)
            panel.set(xscale="log", title=f"against one-sided SAEs of {'2F' if twice else 'F'} latents")
            panel.set(xlabel="F / D", ylabel="FVU of signed SAEs, %")
            panel.set_xticks(widths, [f"{width:g}" for width in widths])
            panel.minorticks_off()
        legend_below(figure)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
