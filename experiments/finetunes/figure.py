"""The figure of the planted fine-tunes: what directions bring and take away of each behaviour."""

from collections.abc import Sequence
from pathlib import Path

from experiments.finetunes.recorded import HALF, METHODS, Line, brought, of_method, places, taken
from sae_lens_abstopk.evaluation.figures.style import GREY, legend_below, mark_of, panels, paper_style

_STEP = 0.13
"""Distance of two methods in a row."""


def draw(record: Sequence[Line], path: Path) -> None:
    """Draw a panel for adding and one for taking away; a row for each behaviour, a point for each seed."""
    rows = places(record)
    with paper_style():
        figure, ((left, right),) = panels(1, 2, height=0.6 + 0.42 * len(rows))
        for axes, of, title in (
            (left, brought, "added to the base model"),
            (right, taken, "taken from the tuned model"),
        ):
            for index, (method, name) in enumerate(METHODS.items()):
                points = [
                    (of(line), row + _STEP * (index - 2))
                    for row, each in enumerate(rows)
                    for line in of_method(record, each, method)
                ]
                mark = mark_of(index)
                x, y = zip(*points, strict=True) if points else ((), ())
                axes.plot(x, y, mark.marker, color=mark.colour, label=name, markersize=3.5, alpha=0.8)
            axes.axvline(HALF, color=GREY, linewidth=0.6)
            axes.set(title=title, xlabel="share of the behaviour's shift", ylim=(len(rows) - 0.5, -0.5))
            axes.set_yticks(range(len(rows)), [row_name(*each) for each in rows] if axes is left else [""] * len(rows))
        legend_below(figure)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})


def row_name(fine_tune: str, behaviour: str) -> str:
    """Name a behaviour, with its fine-tune where that has several."""
    return behaviour if fine_tune == behaviour else f"{fine_tune}: {behaviour}"
