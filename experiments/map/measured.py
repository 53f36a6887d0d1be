"""Recorded cells of the map, and their figure: FVU of signed SAEs against one-sided ones, by latents a dimension."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from experiments.embeddings.measured import Difference, seed_by_seed
from sae_lens_abstopk.evaluation.figures.style import GREY, legend_below, mark_of, panels, paper_style

Line = Mapping[str, Any]
"""One cell: SAEs of all shares of signed latents and seeds."""
SIGNED, EIGHTH, ONE_SIDED = 1.0, 0.125, 0.0
"""Shares of signed latents."""


class Place(NamedTuple):
    """A cell of the map."""

    kind: str
    selection: str
    k: int
    f_over_d: float


class Cells:
    """All recorded cells."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self._lines = {Place(*(line[key] for key in Place._fields)): line for line in lines}

    def places(self) -> list[Place]:
        """Return the places that have SAEs of all shares."""
        return sorted(place for place, line in self._lines.items() if line["saes"][0]["share"] == SIGNED)

    def compared(self) -> list[Place]:
        """Return the places that have one-sided SAEs of twice the width too."""
        return [place for place in self.places() if _twice(place) in self._lines]

    def kinds(self) -> list[str]:
        """Return the kinds with places to compare, those where signs win most at few latents first."""
        at: dict[str, tuple[Any, ...]] = {}
        for place in self.places():
            at.setdefault(place.kind, (place.k, place.f_over_d, self.difference(place).mean))
        return sorted(at, key=lambda kind: at[kind][2])

    def of(self, place: Place, share: float, key: str = "fvu") -> list[float]:
        """Return a number of the SAEs of one share, by seed."""
        return [each[key] for each in self._lines[place]["saes"] if each["share"] == share]

    def difference(self, place: Place, share: float = SIGNED, *, twice: bool = False) -> Difference:
        """Compare the FVU to that of one-sided SAEs of the same or of twice the width; -0.1 means 10 % lower."""
        return seed_by_seed(self.of(place, share), self.of(_twice(place) if twice else place, ONE_SIDED))

    def stability(self, place: Place, share: float) -> float:
        """Return the share of latents that are found again with other first weights."""
        return self._lines[place]["stability"][str(share)]

    def mean(self, place: Place, share: float, key: str) -> float:
        """Return the mean over seeds of ``fvu``, ``l0`` or ``dead``."""
        return mean(self.of(place, share, key))


def _twice(place: Place) -> Place:
    return place._replace(f_over_d=2 * place.f_over_d)


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
