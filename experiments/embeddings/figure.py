"""The figure of the study of embeddings: FVU against one-sided SAEs, and retrieval over bytes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.embeddings.measured import ONE_SIDED, SAES, SIGNED, TWICE, Line, Place, ndcg, relative, stored_bytes
from sae_lens_abstopk.evaluation.figures.style import GREY, INK, legend_below, mark_of, panels, paper_style

SHOWN_WIDTH = 1
"""F / D of the SAEs in the panels of retrieval."""
LINES = {8: ":", 16: "--", 32: "-"}
"""Line of each k in the panels of FVU; others are solid."""
NAMES = {SIGNED: "signed", ONE_SIDED: "one-sided F", TWICE: "one-sided 2F"}


def draw(found: Mapping[Place, Sequence[Line]], path: Path) -> None:
    """Draw a row of two panels a set."""
    sets = list(dict.fromkeys(place.set for place in found))
    with paper_style():
        figure, axes = panels(len(sets), 2, height=2.2)
        for name, (left, right) in zip(sets, axes, strict=True):
            here = {place: lines for place, lines in found.items() if place.set == name}
            _draw_fvu(left, name, here)
            _draw_retrieval(right, name, here)
        legend_below(figure)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})


def _draw_fvu(axes: Any, name: str, found: Mapping[Place, Sequence[Line]]) -> None:
    """Draw the ratio of FVU with its interval over F / D, a line for each k and width of the one-sided SAE."""
    for against, colour in ((ONE_SIDED, mark_of(1).colour), (TWICE, mark_of(2).colour)):
        for k in sorted({place.k for place in found}):
            points = {place.f_over_d: relative(lines, against) for place, lines in found.items() if place.k == k}
            axes.errorbar(
                list(points),
                [1 + point.mean for point in points.values()],
                yerr=[point.margin or 0 for point in points.values()],
                color=colour,
                linestyle=LINES.get(k, "-"),
                marker=".",
                elinewidth=0.6,
                label=f"FVU of signed to {NAMES[against]}, k = {k}",
            )
    widths = sorted({place.f_over_d for place in found})
    axes.axhline(1, color=GREY, lw=0.6)
    axes.set(xscale="log", title=name, xlabel="F / D", ylabel="FVU, signed / one-sided")
    axes.set_xticks(widths, [f"{width:g}" for width in widths])
    axes.minorticks_off()


def _draw_retrieval(axes: Any, name: str, found: Mapping[Place, Sequence[Line]]) -> None:
    """Draw nDCG@10 over bytes: codes and decoded documents of each SAE over k, PCA, and whole vectors."""
    shown = [lines for place, lines in found.items() if place.f_over_d == SHOWN_WIDTH]
    for index, sae in enumerate(SAES):
        for method, marker, line in (("codes", "o", "-"), ("decoded", "D", "--")):
            x, y = ([of(lines, method, sae) for lines in shown] for of in (stored_bytes, ndcg))
            label = f"{NAMES[sae]}, F = D: {method}"
            axes.plot(x, y, marker + line, color=mark_of(index).colour, ms=3, markerfacecolor="none", label=label)
    everywhere = list(found.values())
    pca = np.array([[of(lines, "PCA") for lines in everywhere] for of in (stored_bytes, ndcg)])
    axes.plot(*pca[:, pca[0].argsort()], "x-", color=GREY, lw=0.7, ms=3, label="PCA in 8 bits")
    for method, marker in (("int8", "P"), ("float32", "*")):
        axes.plot(*([of(everywhere[0], method)] for of in (stored_bytes, ndcg)), marker, color=INK, ms=5, label=method)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set(title=name, xlabel="bytes of a stored document", ylabel="nDCG@10")
