"""Write the tables and the figure of the study of embeddings into `docs/embeddings.md`.

    python -m experiments.embeddings.report

Reads `results/runs.jsonl`, as much of it as there is.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean

from experiments.embeddings.figure import draw
from experiments.embeddings.measured import (
    ONE_SIDED,
    SAES,
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

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "embeddings.md"
PICTURE = ROOT / "docs" / "pictures" / "embeddings.svg"
HEADER = ("F / D", "k (bytes)", "FVU", "to F, %", "to 2F, %", "codes", "decoded", "PCA")


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
