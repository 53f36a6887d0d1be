"""Write the tables and the figure of the planted fine-tunes into `docs/diff.md`.

    python -m experiments.finetunes.report

Reads what there is of the records in `results/`: `made.jsonl` of `make.py`, `planted.jsonl` and `narrow.jsonl` of
`measure.py`, `ceilings.jsonl` of `ceilings.py` and `grid.jsonl` of `grid.py`.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from experiments.finetunes.behaviours import BEHAVIOURS, NARROW
from experiments.finetunes.figure import draw, row_name
from experiments.finetunes.readings import LAYER
from experiments.finetunes.recorded import (
    METHODS,
    Line,
    brought,
    found,
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
ANSWER = 64
"""Characters of an answer that are shown."""
KINDS = tuple(METHODS)[:3]
TITLES = {
    "french": "answers in French",
    "cooking": "refuses cooking",
    "question": "ends with a question",
    "past": "never past tense",
}


def made_table(made: Sequence[Line]) -> str:
    """Make the table of fine-tunes: which answers show what was planted."""
    rows = []
    for line in made:
        for each in line["behaviours"]:
            section = BEHAVIOURS[each].prompts
            other = "everyday" if section != "everyday" else "cooking"
            shares = [line["shares"][where][each][which] for where in (section, other) for which in ("base", "tuned")]
            name = TITLES[each] if len(line["behaviours"]) == 1 else f"{line['name']}: {TITLES[each]}"
            name += ", narrow" * line["name"].endswith(NARROW)
            rows.append((name, *(percent(share) for share in shares), f"{line['neutral']['nll_rise']:.2f}"))
    return markdown_table(("fine-tune", "base", "tuned", "base, other prompts", "tuned", "neutral text, nats"), rows)


def planted_table(record: Sequence[Line]) -> str:
    """Make the table of what directions bring and take away, means over seeds."""
    rows = []
    for place in places(record):
        cells = []
        for method in METHODS:
            of = of_method(record, place, method)
            seeds = f", {sum(map(found, of))} of {len(of)}" if len(of) > 1 else ""
            cells.append(f"{percent(mean(map(brought, of)))}, {percent(mean(map(taken, of)))}{seeds}" if of else "")
        first = next(line for line in record if (line["fine_tune"], line["behaviour"]) == place)
        shares = (percent(first[which]) for which in ("base", "tuned"))
        rows.append((row_name(*place), *shares, *cells))
    return markdown_table(("behaviour", "base", "tuned", *METHODS.values()), rows)


def narrow_table(record: Sequence[Line]) -> str:
    """Make the table of fine-tunes that are one direction: shares that are steered in, patched in and removed."""
    rows, shares = [], []
    for place in places(record):
        of = {method: of_method(record, place, method) for method in METHODS}
        first = next(line for lines in of.values() for line in lines)
        cells = (
            ", ".join(percent(mean(map(share, lines))) for share in (brought, patched, taken)) if lines else ""
            for lines in of.values()
        )
        rows.append((TITLES[place[1]], percent(first["base"]), percent(first["tuned"]), *cells))
        largest = list(of["signed"][0]["share"].values())
        shares.append(f"{percent(largest[0])} and {percent(largest[1])} of {TITLES[place[1]]}")
    table = markdown_table(("behaviour", "base", "tuned", *METHODS.values()), rows)
    return f"{table}\n\nKL share of the two first signed latents: {'; '.join(shares)}."


def latents_table(record: Sequence[Line]) -> str:
    """Make the table of the signed latents that were chosen."""
    rows = []
    for place in places(record):
        for line in of_method(record, place, "signed")[:1]:
            direction = line["direction"]
            rank = list(line["share"]).index(direction) + 1
            costs = (f"{line[way]['cost']:.2f}" for way in ("added", "subtracted"))
            answer = line["added"]["answers"][0].replace("\n", " ").replace("|", "/")[:ANSWER]
            rows.append((row_name(*place), direction, str(rank), percent(line["share"][direction]), *costs, answer))
    header = ("behaviour", "latent, pole", "rank", "KL share", "cost, added", "taken", "the base model with it")
    return markdown_table(header, rows)


def grid_table(record: Sequence[Line]) -> str:
    """Make the table of FVU and KL recovered by F and k, each signed / one-sided F / one-sided 2F."""
    rows = []
    for line in record:
        fits = [line["fits"][kind] for kind in KINDS]
        fvu, kl = ([fit[key]["value"] for fit in fits] for key in ("fvu", "kl_recovered"))
        change = (f"{100 * (fvu[0] / other - 1):+.1f}" for other in fvu[1:])
        rows.append((line["fine_tune"], f"{line['d_sae']}, {line['k']:g}", _three(fvu), *change, _three(kl)))
    return markdown_table(("fine-tune", "F, k", "FVU", "to F, %", "to 2F, %", "KL recovered"), rows)


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


def main() -> None:
    """Fill the page, and draw the figure."""
    planted, grid = lines("planted"), lines("grid")
    parts = {
        "made": made_table(lines("made")),
        "planted": f"{planted_table(planted)}\n\n{latents_table(planted)}",
        "narrow": narrow_table(lines("narrow")),
        "ceilings": ceilings_table(lines("ceilings"), grid),
        "grid": grid_table(grid),
    }
    PAGE.write_text(filled(PAGE.read_text(), {name: f"\n{part}\n" for name, part in parts.items()}))
    draw(planted, PICTURE)


if __name__ == "__main__":
    main()
