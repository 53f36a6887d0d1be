"""Write the tables and the figure of the planted fine-tunes into `docs/diff.md`.

    python -m experiments.finetunes.report

Reads what there is of the records in `results/`: `narrow.jsonl` and `planted.jsonl` of `measure.py`, `grid.jsonl`
of `grid.py`, and `ceilings.jsonl` and `noise_control.json`, whose scripts are in the history (see the log).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from experiments.finetunes.readings import LAYER
from experiments.pages import filled, markdown_table
from experiments.recording import read_lines
from sae_lens_abstopk.evaluation.figures.style import GREY, legend_below, mark_of, panels, paper_style

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "diff.md"
PICTURE = ROOT / "docs" / "pictures" / "diff.svg"

RESULTS = Path(__file__).resolve().parent / "results"
METHODS = {
    "signed": "signed",
    "one_sided_F": "one-sided F",
    "one_sided_2F": "one-sided 2F",
    "mean": "mean difference",
    "pca": "PCA",
}
"""Names of the methods in tables."""
KINDS = tuple(METHODS)[:3]
TITLES = {
    "french": "answers in French",
    "cooking": "refuses cooking",
    "question": "ends with a question",
    "past": "never past tense",
}
"""Names of behaviours."""
HALF = 0.5
"""Least share of the shift that a found direction brings, and takes away."""
Line = dict[str, Any]
_STEP = 0.13
"""Distance of two methods in a row."""


def lines(name: str) -> list[Line]:
    """Return the lines of a record."""
    return read_lines(RESULTS / f"{name}.jsonl")


def brought(line: Line) -> float:
    """Return the share of the behaviour's shift that adding the direction to the base model brings."""
    return (line["added"]["share"] - line["base"]) / (line["tuned"] - line["base"])


def patched(line: Line) -> float:
    """Return the share of the shift that the direction brings if the tuned model's part along it is patched in."""
    return (line["patched"]["share"] - line["base"]) / (line["tuned"] - line["base"])


def taken(line: Line) -> float:
    """Return the share of the shift that removing the direction takes from the tuned model."""
    return (line["tuned"] - line["removed"]["share"]) / (line["tuned"] - line["base"])


def of_method(record: Sequence[Line], place: tuple[str, str], method: str) -> list[Line]:
    """Return the lines of a behaviour of a fine-tune by one method, a seed each."""
    return [each for each in record if (each["fine_tune"], each["behaviour"], each["method"]) == (*place, method)]


def places(record: Sequence[Line]) -> list[tuple[str, str]]:
    """Return the fine-tunes and behaviours of a record, in its order."""
    return list(dict.fromkeys((each["fine_tune"], each["behaviour"]) for each in record))


def percent(share: float) -> str:
    """Format a share."""
    return f"{share:.0%}".replace("%", " %")


def planted_table(record: Sequence[Line]) -> str:
    """Make the table of fine-tunes: shares of each planted behaviour that are steered in, patched in and removed."""
    rows = []
    for place in places(record):
        of = {method: of_method(record, place, method) for method in METHODS}
        first = next(line for lines in of.values() for line in lines)
        cells = (
            ", ".join(f"{round(100 * mean(map(share, lines)))}" for share in (brought, patched, taken)) if lines else ""
            for lines in of.values()
        )
        largest = ", ".join(f"{100 * share:.0f}" for share in list(of["signed"][0]["share"].values())[:2])
        rows.append((row_name(place), percent(first["base"]), percent(first["tuned"]), largest, *cells))
    return markdown_table(("behaviour", "base", "tuned", "KL shares", *METHODS.values()), rows)


def grid_table(record: Sequence[Line]) -> str:
    """Make the table of FVU and KL recovered by F and k: signed / one-sided F / one-sided 2F, and PCA of k / F."""
    rows = []
    for line in record:
        fits = [line["fits"][kind] for kind in KINDS]
        fvu, kl = ([fit[key]["value"] for fit in fits] for key in ("fvu", "kl_recovered"))
        change = (f"{100 * (fvu[0] / other - 1):+.1f}" for other in fvu[1:])
        of_pca = (
            _three(values)
            for values in zip(*((each["fvu"], each["kl_recovered"]["value"]) for each in line["pca"]), strict=True)
        )
        sizes = f"{line['d_sae']}, {line['k']:g}"
        rows.append((line["fine_tune"], sizes, _three(fvu), *change, _three(kl), *of_pca))
    header = ("fine-tune", "F, k", "FVU", "to F, %", "to 2F, %", "KL recovered", "PCA: FVU", "KL recovered")
    return markdown_table(header, rows)


def ceilings_table(record: Sequence[Line], grid: Sequence[Line]) -> str:
    """Make the table of what the difference itself and its mean recover at each layer."""
    at = {(line["fine_tune"], LAYER): line for line in grid} | {
        (each["fine_tune"], each["layer"]): each for each in record
    }
    names, layers = (list(dict.fromkeys(sorted(key[i] for key in at))) for i in (0, 1))
    rows = []
    for name in names:
        cells = (at.get((name, layer)) for layer in layers)
        rows.append(
            (name, *(f"{c['ceiling']['value']:.2f} ({c['mean_difference']['value']:.2f})" if c else "" for c in cells))
        )
    return markdown_table(("fine-tune", *(f"layer {layer}" for layer in layers)), rows)


def _three(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.3f}".replace("0.", ".", 1) for value in values)


def noise(record: Mapping[str, Any]) -> str:
    """Say how many latents other seeds have too, of a fine-tune and of noise."""
    tuned, noisy = (
        f"{found['found_in_any_other_seed']} of {found['live_latents']}"
        for found in (record["fine_tune"], record["noise"])
    )
    return (
        f"Of the fine-tune to French of rank 8, {tuned} latents are found in another of "
        f"{record['training']['seeds']} seeds\n(|cosine| of at least .7); of noise of the same norms in place of the "
        f"differences, {noisy}."
    )


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


def page() -> str:
    """Return the page with the numbers of the records."""
    grid = lines("grid")
    parts = {
        "narrow": planted_table(lines("narrow")),
        "planted": planted_table(lines("planted")),
        "ceilings": ceilings_table(lines("ceilings"), grid),
        "grid": grid_table(grid),
        "noise": noise(json.loads((RESULTS / "noise_control.json").read_text(encoding="utf-8"))),
    }
    return filled(PAGE.read_text(encoding="utf-8"), {name: f"\n{part}\n" for name, part in parts.items()})


def main() -> None:
    """Fill the page, and draw the figure."""
    PAGE.write_text(page(), encoding="utf-8")
    draw(lines("narrow"), PICTURE)


if __name__ == "__main__":
    main()
