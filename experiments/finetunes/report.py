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

from experiments.finetunes.figure import draw, row_name
from experiments.finetunes.readings import LAYER
from experiments.finetunes.recorded import (
    METHODS,
    RESULTS,
    Line,
    brought,
    lines,
    of_method,
    patched,
    percent,
    places,
    taken,
)
from experiments.pages import filled, markdown_table

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "diff.md"
PICTURE = ROOT / "docs" / "pictures" / "diff.svg"
KINDS = tuple(METHODS)[:3]


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
