"""Write the tables and the figure of the map into `docs/map.md`, from the records in `results/`.

    python -m experiments.map.report

`cells.jsonl`, `other_fine_tune.jsonl`, `per_vector.jsonl` and `one_pass.jsonl` are of `run.py`; the scripts of the
other records are in the history (see the log).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from experiments.embeddings.measured import Difference, seed_by_seed
from experiments.map.measured import EIGHTH, ONE_SIDED, SIGNED, Cells, Place, draw
from experiments.map.run import RECORD
from experiments.pages import filled, markdown_table
from experiments.recording import read_lines

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "map.md"
PICTURE = ROOT / "docs" / "pictures" / "map.svg"
COMMON = ("batch", 8, 0.25)
"""Selection, k and F / D of the cell that most kinds have."""
RECIPE_NAMES = {
    "signed": "signed",
    "two biases": "signed, a bias for each pole",
    "two encoders": "signed, an encoder row for each pole",
    "closed poles": "signed, weak poles closed during training",
    "signed, dense": "signed, beside a dense path",
    "one-sided, dense": "one-sided, beside a dense path",
}
RECIPE_PLACES = (("residual stream, layer 15", 2.0), ("sentence means", 0.25))
AS_MANY_PARAMETERS = 1.5
"""One-sided latents with as many parameters as two encoder rows and one decoder row take."""
COVERING = ("signed", "untrained", "F", "2F")
"""SAEs of a line on coverage; the untrained ones fire as often as the signed ones."""
Line = Mapping[str, Any]


def lines(name: str) -> list[dict[str, Any]]:
    """Return the lines of a record in `results/`."""
    return read_lines(RECORD.with_name(f"{name}.jsonl"))


def cells_table(cells: Cells) -> str:
    """Make a table with a row for each kind, k and F / D."""
    rows = []
    for place in (place for kind in cells.kinds() for place in cells.places() if place.kind == kind):
        errors = three(cells.mean(place, share, "fvu") for share in (SIGNED, EIGHTH, ONE_SIDED))
        to_twice = cells.difference(place, twice=True) if place in cells.compared() else ""
        differences = (cells.difference(place), to_twice, cells.difference(place, EIGHTH))
        stable = "&nbsp;".join(f"{100 * cells.stability(place, share):.0f}" for share in (SIGNED, ONE_SIDED))
        rows.append((place.kind, f"{place.k}", f"{place.f_over_d:g}", errors, *map(str, differences), stable))
    header = ("kind", "k", "F / D", "FVU", "to F, %", "to 2F, %", "1/8 to F, %", "found again, %")
    return markdown_table(header, rows)


def three(values: Any, form: str = ".3f") -> str:
    """Join numbers below 1 in a cell that is not broken, without their 0."""
    return "&nbsp;".join(f"{value:{form}}".removeprefix("0") for value in values)


def summary(cells: Cells) -> str:
    """Say in how many cells a sign wins, against as many one-sided latents and against twice as many."""
    same = [cells.difference(place) for place in cells.places()]
    lowest, highest = (f"{100 * pick(change.mean for change in same):+.0f}" for pick in (min, max))
    of_twice = [place for place in cells.compared() if cells.difference(place, twice=True).is_lower]
    kinds = "; ".join(sorted({place.kind for place in of_twice})) or "none"
    return (
        f"Against as many one-sided latents, the signed SAE has the lower FVU in {sum(each.is_lower for each in same)} "
        f"of {len(same)} cells\n(the whole interval below 0), {lowest} to {highest} %. Against twice as many, in "
        f"{len(of_twice)} of {len(cells.compared())}:\n{kinds}."
    )


def other_fine_tune(cells: Cells) -> str:
    """Say how signed SAEs compare on what another fine-tune changed."""
    places = cells.compared()
    same, of_twice = (
        " and ".join(cells.difference(place, twice=twice).text for place in places) for twice in (False, True)
    )
    widths = " and ".join(f"D/{1 / place.f_over_d:g}" for place in places)
    return f"Another fine-tune to French (three seeds): {same} % to F at {widths},\n{of_twice} % to 2F."


def per_vector(cells: Cells) -> str:
    """Compare signed and one-sided SAEs with selection for each vector."""

    def spread(places: Sequence[Place], *, twice: bool = False) -> str:
        changes = [100 * cells.difference(place, twice=twice).mean for place in places]
        return f"{min(changes):+.1f} to {max(changes):+.1f} %"

    narrow, wide = ([place for place in cells.places() if place.f_over_d == width] for width in (0.25, 1.0))
    others = [place for place in narrow if place.kind in {place.kind for place in wide}]
    of_differences = "; ".join(
        f"{place.kind} {cells.difference(place).text} % ({cells.difference(place, twice=True).text} % to 2F)"
        for place in narrow
        if place not in others
    )
    return (
        f"With selection for each vector and k = {narrow[0].k}, a sign hardly matters for {len(others)} kinds: "
        f"{spread(others)} of FVU to F at D/4\n({spread(others, twice=True)} to 2F), {spread(wide)} at F = D. It does "
        f"at D/4 for two more:\n{of_differences}."
    )


def statistics_table(cells: Cells, statistics: Mapping[str, Line]) -> str:
    """Make a table of the statistics of each kind, and of how well each predicts the difference to F."""
    changes = gained(cells)
    names = [name for name in next(iter(statistics.values())) if name != "source"]
    kinds, target = list(changes), np.array(list(changes.values()))
    values = np.array([[statistics[kind][name] for name in names] for kind in kinds])
    rows: list[tuple[str, ...]] = [
        (kind, f"{100 * ratio:+.1f}", *(f"{value:.3g}" for value in of_kind))
        for kind, ratio, of_kind in zip(kinds, target, values, strict=True)
    ]
    rows.append(("*rank correlation*", "", *(f"{spearmanr(column, target)[0]:+.2f}" for column in values.T)))
    # a column of zeros: the mean of the other kinds, which predicts without a statistic
    errors = (_left_out(column[:, None], target) for column in (np.zeros(len(kinds)), *values.T))
    rows.append(("*error of a kind left out, points*", *(f"{100 * error:.1f}" for error in errors)))
    return markdown_table(("kind", "to F, %", *(name.replace("_", " ") for name in names)), rows)


def gained(cells: Cells) -> dict[str, float]:
    """Return the difference to one-sided SAEs of the same width of each kind that has the common place."""
    places = {kind: Place(kind, *COMMON) for kind in cells.kinds()}
    return {kind: cells.difference(place).mean for kind, place in places.items() if place in cells.places()}


def _left_out(x: np.ndarray, y: np.ndarray) -> float:
    """Return the mean absolute error of a line that is fitted to the other kinds."""
    return float(np.abs(cross_val_predict(LinearRegression(), x, y, cv=LeaveOneOut()) - y).mean())


def synthetic_table(record: Sequence[Line]) -> str:
    """Make a table of FVU and recovery on known features: a row a size, a column a share of two-sided features."""
    at = {(line["superposition"], line["f_over_d"], line["two_sided"]): line["saes"] for line in record}
    shares = sorted({key[2] for key in at})

    def cell(saes: Sequence[Line], two_sided: float) -> str:
        fvu, recovery = (
            {share: [sae[key] for sae in saes if sae["share"] == share] for share in (0.0, two_sided, 1.0)}
            for key in ("fvu", "recovery")
        )
        change = {share: f"{100 * seed_by_seed(fvu[share], fvu[0.0]).mean:+.0f}" for share in fvu}
        of_share = f" ({change[two_sided]})" if 0 < two_sided < 1 else ""
        return f"{change[1.0]}{of_share}; {three((mean(recovery[share]) for share in (0.0, 1.0)), '.2f')}"

    rows = [
        (f"{size[0]:g}", f"{size[1]:g}", *(cell(at[*size, two_sided], two_sided) for two_sided in shares))
        for size in sorted({key[:2] for key in at})
    ]
    return markdown_table(("features / D", "F / D", *(f"p = {two_sided:g}" for two_sided in shares)), rows)


def recipe_errors(record: Sequence[Line]) -> dict[tuple[str, float, str], list[float]]:
    """Return FVUs by kind, F / D and recipe; a value for each seed."""
    return {(line["kind"], line["f_over_d"], line["recipe"]): [sae["fvu"] for sae in line["saes"]] for line in record}


def recipes_table(record: Sequence[Line]) -> str:
    """Make a table of the FVU of each recipe, in percent of one-sided SAEs of as many latents."""
    at = recipe_errors(record)
    shown = [(name, recipe, 1.0) for recipe, name in RECIPE_NAMES.items()]
    rows = [
        (name, *(str(seed_by_seed(at[kind, times * f, recipe], at[kind, f, "one-sided"])) for kind, f in RECIPE_PLACES))
        for name, recipe, times in [*shown, (f"one-sided, {AS_MANY_PARAMETERS:g} F", "one-sided", AS_MANY_PARAMETERS)]
    ]
    return markdown_table(("FVU to one-sided F, %", *(f"{kind}, F = {f:g} D" for kind, f in RECIPE_PLACES)), rows)


def gated_errors(record: Sequence[Line], sae: str, l0: float) -> list[float]:
    """Return the FVU of Gated SAEs at an L0, a value a seed: interpolated in log L0 between penalties."""
    errors = []
    for seed in sorted({line["seed"] for line in record}):
        of_seed = (line for line in record if (line["sae"], line["seed"]) == (sae, seed))
        at, fvu = np.array(sorted((line["l0"], line["fvu"]) for line in of_seed)).T
        errors.append(float(np.interp(np.log(l0), np.log(at + 1e-3), fvu)))
    return errors


def gated_table(record: Sequence[Line]) -> str:
    """Make a table of the FVU of Gated SAEs at each L0."""
    rows = []
    for l0 in (16, 32, 64):
        signed, *others = (gated_errors(record, sae, l0) for sae in ("signed F", "one-sided F", "one-sided 2F"))
        shown = (three([mean(errors)]) for errors in (signed, *others))
        rows.append((f"{l0}", *shown, *(str(seed_by_seed(signed, other)) for other in others)))
    return markdown_table(("L0", "signed F", "one-sided F", "one-sided 2F", "to F, %", "to 2F, %"), rows)


def one_pass(record: Sequence[Line], repeated: Cells) -> str:
    """Compare the cell whose SAEs see no vector twice with the cell of the map."""
    cells, rows = Cells(record), record[0]["rows"]["train"]
    (place,) = cells.compared()
    now, before = ([of.difference(place, twice=twice).text for twice in (False, True)] for of in (cells, repeated))
    return (
        f"In training, vectors of the map are repeated up to four times. With {rows:,}, none of them twice, the\n"
        f"FVU of the signed SAE of {place.kind} (k = {place.k}, F = {place.f_over_d:g} D) is {now[0]} % to F\n"
        f"and {now[1]} % to 2F (in the map: {before[0]} and {before[1]})."
    )


def loss_table(record: Sequence[Line]) -> str:
    """Make a table of how far SAEs in place move the predictions of the model, beside their FVU."""
    rows = []
    for line in record:
        fvu, kl = (of_saes(line[key]) for key in ("fvu", "kl"))
        moved = "&nbsp;".join(f"{1000 * mean(values):.2f}" for values in kl.values())
        errors = three(map(mean, fvu.values()))
        rows.append((line["kind"], errors, *map(str, against(line, "fvu")), moved, *map(str, against(line, "kl"))))
    return markdown_table(("kind", "FVU", "to F, %", "to 2F, %", "KL, nats / 1000", "to F, %", "to 2F, %"), rows)


def of_saes(values: Mapping[str, float]) -> dict[str, list[float]]:
    """Return a number of the SAEs by what they are; a value for each seed."""
    by_name: dict[str, list[float]] = {}
    for name, value in values.items():
        by_name.setdefault(name.split()[0], []).append(value)
    return by_name


def coverage_table(record: Sequence[Line]) -> str:
    """Make a table of how well one latent covers concepts, and tells their poles apart."""
    rows = []
    for line in record:
        covered, density, auroc = (by_sae(line, key) for key in ("coverage", "density", "auroc"))
        rows.append(
            (
                line["kind"],
                three((mean(covered[sae]) for sae in COVERING), ".2f"),
                str(seed_by_seed(covered["signed"], covered["untrained"])),
                "&nbsp;".join(f"{100 * mean(density[sae]):.0f}" for sae in COVERING[:2]),
                three(mean(auroc[sae]) for sae in ("signed", "F", "2F")),
            )
        )
    header = ("kind", "coverage", "signed to untrained, %", "fires on, %", "AUROC of one latent")
    return markdown_table(header, rows)


def by_sae(line: Line, key: str) -> dict[str, list[float]]:
    """Return the mean over concepts of a number of the probed SAEs by what they are; a value for each seed."""
    return of_saes({name: mean(sae[key].values()) for name, sae in line["saes"].items()})


def against(line: Line, key: str) -> list[Difference]:
    """Compare a number of the signed SAEs to that of the one-sided ones of F and of 2F latents."""
    signed, *others = of_saes(line[key]).values()
    return [seed_by_seed(signed, other) for other in others]


def page() -> str:
    """Return the page with the numbers of the records."""
    cells = Cells(lines("cells"))
    parts = {
        "summary": summary(cells),
        "cells": cells_table(cells),
        "other fine-tune": other_fine_tune(Cells(lines("other_fine_tune"))),
        "per vector": per_vector(Cells(lines("per_vector"))),
        "synthetic": synthetic_table(lines("synthetic")),
        "recipes": recipes_table(lines("recipes")),
        "gated": gated_table(lines("gated")),
        "one pass": one_pass(lines("one_pass"), cells),
        "loss": loss_table(lines("loss")),
        "coverage": coverage_table(lines("coverage")),
        "statistics": statistics_table(cells, json.loads(RECORD.with_name("statistics.json").read_text())["kinds"]),
    }
    return filled(PAGE.read_text(encoding="utf-8"), parts)


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    draw(Cells(lines("cells")), PICTURE)


if __name__ == "__main__":
    main()
