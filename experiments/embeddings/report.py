"""Write the tables and the figure of the study of embeddings into `docs/embeddings.md`.

    python -m experiments.embeddings.report

Reads `results/runs.jsonl`, as much of it as there is.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from experiments.embeddings.measured import (
    ONE_SIDED,
    SAES,
    SIGNED,
    TWICE,
    Line,
    Place,
    by_place,
    fvu,
    l0,
    l0_of_codes,
    main_runs,
    ndcg,
    relative,
    stored_bytes,
)
from experiments.embeddings.study import RECORD
from experiments.pages import filled, markdown_table
from experiments.recording import read_lines
from sae_lens_abstopk.evaluation.figures.style import GREY, INK, legend_below, mark_of, panels, paper_style

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "embeddings.md"
PICTURE = ROOT / "docs" / "pictures" / "embeddings.svg"
HEADER = ("F / D", "k (bytes)", "FVU", "to F, %", "to 2F, %", "codes", "decoded", "PCA")


SHOWN_WIDTH = 1
"""F / D of the SAEs in the panels of retrieval."""
LINES = {8: ":", 16: "--", 32: "-"}
"""Line of each k in the panels of FVU; others are solid."""
NAMES = {SIGNED: "signed", ONE_SIDED: "one-sided F", TWICE: "one-sided 2F"}


def study_tables(found: Mapping[Place, Sequence[Line]]) -> str:
    """Make a table a set of the main runs, with a line on its size."""
    parts = []
    for name in dict.fromkeys(place.set for place in found):
        here = {place: lines for place, lines in found.items() if place.set == name}
        parts += [caption(name, [line for lines in here.values() for line in lines])]
        parts += [markdown_table(HEADER, (row(place, lines) for place, lines in here.items()))]
    return "\n\n".join(parts) or "Nothing is recorded yet."


def variant_table(found: Mapping[Place, Sequence[Line]]) -> str:
    """Make a table of runs with another selection or loss."""
    rows = []
    for place, lines in found.items():
        if place.change:
            width, k, *numbers = row(place, lines)
            actives = ("&nbsp;".join(f"{mean(of(lines, sae)):.1f}" for sae in SAES) for of in (l0, l0_of_codes))
            rows.append((f"`{place.set}`, {place.change}, {width}, {k}", *actives, *numbers))
    header = (f"set, change, {', '.join(HEADER[:2])}", "L0", "L0 of codes", *HEADER[2:])
    return markdown_table(header, rows) if rows else "Nothing is recorded yet."


def caption(name: str, lines: Sequence[Line]) -> str:
    """Describe a set: its size, seeds, and retrieval with whole vectors."""
    one, seeds = lines[0], sorted({line["seed"] for line in lines})
    n_seeds = f"{len(seeds)} seed{'s' * (len(seeds) > 1)}"
    methods = {method: (ndcg([one], method), stored_bytes([one], method)) for method in ("float32", "int8")}
    of_vectors = ", ".join(f"{method} {short(score)} in {size:,.0f} bytes" for method, (score, size) in methods.items())
    farthest = max(abs(active - line["k"]) for line in lines for sae in SAES for active in l0([line], sae))
    active = "L0 is k" if farthest < 0.05 else f"L0 differs from k by up to {farthest:.1f}"
    sizes = f"{one['n_queries']:,} queries, {one['n_documents']:,} documents"
    return (
        f"`{name}` ({one['model']}, D = {one['d_in']}; {sizes}; {n_seeds}). {active}. nDCG@10 of vectors: {of_vectors}."
    )


def row(place: Place, lines: Sequence[Line]) -> tuple[str, ...]:
    """Return the cells of one F / D and k; three numbers in a cell are of signed, one-sided F and one-sided 2F."""
    size = f"{stored_bytes(lines, 'codes', SAES[0]):.0f}"
    return (
        f"{place.f_over_d:g}",
        f"{place.k} ({size})",
        three(mean(fvu(lines, sae)) for sae in SAES),
        *(str(relative(lines, against)) for against in (ONE_SIDED, TWICE)),
        *(three(ndcg(lines, method, sae) for sae in SAES) for method in ("codes", "decoded")),
        short(ndcg(lines, "PCA")),
    )


def three(numbers: Iterable[float]) -> str:
    """Format numbers so that they stay in one line."""
    return "&nbsp;".join(map(short, numbers))


def short(number: float) -> str:
    return f"{number:.3f}".removeprefix("0")


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


def page(lines: Sequence[Line]) -> str:
    """Return the page with current numbers."""
    found = by_place(lines)
    parts = {"study": study_tables(main_runs(found)), "variants": variant_table(found)}
    return filled(PAGE.read_text(encoding="utf-8"), parts)


def main() -> None:
    lines = read_lines(RECORD)
    PAGE.write_text(page(lines), encoding="utf-8")
    if lines:
        draw(main_runs(by_place(lines)), PICTURE)


if __name__ == "__main__":
    main()
