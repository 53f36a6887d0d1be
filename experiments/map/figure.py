"""The figure of the map: FVU of signed SAEs against one-sided ones, over latents per dimension."""

from pathlib import Path

from experiments.map.measured import Cells
from sae_lens_abstopk.evaluation.figures.style import GREY, legend_below, mark_of, panels, paper_style


def draw(cells: Cells, path: Path) -> None:
    """Draw a panel for each k, against the same and against twice the width; a line for each kind of vector."""
    places, kinds = cells.compared(), cells.kinds()
    ks = sorted({place.k for place in places})
    with paper_style():
        figure, axes = panels(len(ks), 2, height=2.3)
        for k, row in zip(ks, axes, strict=True):
            for twice, panel in zip((False, True), row, strict=True):
                for index, kind in enumerate(kinds):
                    points = [place for place in places if (place.k, place.kind) == (k, kind)]
                    ratios = [cells.difference(place, twice=twice) for place in points]
                    mark = mark_of(index)
                    panel.errorbar(
                        [place.f_over_d for place in points],
                        [100 * ratio.mean for ratio in ratios],
                        yerr=[100 * (ratio.margin or 0) for ratio in ratios],
                        color=mark.colour,
                        marker=mark.marker,
                        elinewidth=0.6,
                        label=kind,
                    )
                widths = sorted({place.f_over_d for place in places})
                panel.axhline(0, color=GREY, lw=0.6)
                panel.set(xscale="log", title=f"k = {k}, one-sided {'2F' if twice else 'F'}")
                panel.set(xlabel="F / D", ylabel="FVU, signed to one-sided, %")
                panel.set_xticks(widths, [f"{width:g}" for width in widths])
                panel.minorticks_off()
        legend_below(figure)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
