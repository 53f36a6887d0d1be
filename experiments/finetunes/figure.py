"""The figure of the planted fine-tunes: what directions bring and take away of each behaviour."""

from collections.abc import Sequence
from pathlib import Path

from experiments.finetunes.recorded import HALF, METHODS, TITLES, Line, brought, of_method, patched, places, taken
from sae_lens_abstopk.evaluation.figures.style import GREY, legend_below, mark_of, panels, paper_style

_STEP = 0.13
"""Distance of two methods in a row."""


def draw(record: Sequence[Line], path: Path) -> None:
    """Draw a panel for adding, patching and removing; a row for each behaviour, a point for each seed."""
    rows = places(record)
    shown = ((brought, "added to the base model"), (patched, "patched into it"), (taken, "removed from the tuned one"))
    with paper_style():
        figure, (across,) = panels(1, len(shown), height=0.7 + 0.42 * len(rows))
        for axes, (share, title) in zip(across, shown, strict=True):
            for index, (method, name) in enumerate(METHODS.items()):
                points = [
                    (share(line), row + _STEP * (index - 2))
                    for row, each in enumerate(rows)
                    for line in of_method(record, each, method)
                ]
                mark = mark_of(index)
                x, y = zip(*points, strict=True) if points else ((), ())
                axes.plot(x, y, mark.marker, color=mark.colour, label=name, markersize=3.5, alpha=0.8)
            axes.axvline(HALF, color=GREY, linewidth=0.6)
            axes.set(title=title, xlim=(-0.15, 1.85), ylim=(len(rows) - 0.5, -0.5))
            axes.set_yticks(range(len(rows)), map(row_name, rows) if axes is across[0] else [""] * len(rows))
        across[1].set_xlabel("share of the behaviour's shift")
        legend_below(figure)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})


def row_name(place: tuple[str, str]) -> str:
    """Name a behaviour, and say if its fine-tune has both."""
    fine_tune, behaviour = place
    return TITLES[behaviour] + ", of both" * fine_tune.startswith("mixture")
