"""Write the tables and the figure of the map into `docs/map.md`.

    python -m experiments.map.report

Reads the records in `results/`: `cells.jsonl`, `other_fine_tune.jsonl`, `per_vector.jsonl` and `one_pass.jsonl` of
`run.py`, `statistics.json` of `statistics.py`, and those of `synthetic.py`, `recipes.py`, `gated.py`, `loss.py` and
`coverage.py`, which have their names.
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

from experiments.embeddings.measured import Difference, read, seed_by_seed
from experiments.map.coverage import RECORD as COVERAGE
from experiments.map.figure import draw
from experiments.map.gated import RECORD as GATED
from experiments.map.gated import fvu_at
from experiments.map.loss import RECORD as LOSS
from experiments.map.measured import EIGHTH, ONE_SIDED, SIGNED, Cells, Place
from experiments.map.recipes import RECORD as RECIPES
from experiments.map.run import RECORD
from experiments.map.statistics import RECORD as STATISTICS
from experiments.map.statistics import SignStatistics
from experiments.map.synthetic import RECORD as SYNTHETIC
from experiments.map.synthetic import TWO_SIDED
from experiments.pages import filled, markdown_table

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "map.md"
PICTURE = ROOT / "docs" / "pictures" / "map.svg"
ONE_PASS = RECORD.with_name("one_pass.jsonl")
"""Cells whose SAEs see no vector twice."""
OTHER_FINE_TUNE = RECORD.with_name("other_fine_tune.jsonl")
"""Cells of differences of two models, with another fine-tune than in the map."""
PER_VECTOR = RECORD.with_name("per_vector.jsonl")
"""Cells with selection for each vector."""
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
GATED_L0 = (16, 32, 64)
COMPARED = ("signed", "F", "2F")
COVERING = ("signed", "untrained", "F", "2F")
"""SAEs of a line on coverage; the untrained ones fire as often as the signed ones."""


def cells_table(cells: Cells) -> str:
    """Make a table with a row for each kind, k and F / D."""
    rows = []
    for kind in cells.kinds():
        for place in (place for place in cells.places() if place.kind == kind):
            errors = "&nbsp;".join(
                f"{cells.mean(place, share, 'fvu'):.3f}"[1:] for share in (SIGNED, EIGHTH, ONE_SIDED)
            )
            differences = (
                cells.difference(place),
                cells.difference(place, twice=True) if place in cells.compared() else "",
                cells.difference(place, EIGHTH),
            )
            found = "&nbsp;".join(f"{100 * cells.stability(place, share):.0f}" for share in (SIGNED, ONE_SIDED))
            rows.append((kind, f"{place.k}", f"{place.f_over_d:g}", errors, *map(str, differences), found))
    header = ("kind", "k", "F / D", "FVU", "to F, %", "to 2F, %", "1/8 to F, %", "found again, %")
    return markdown_table(header, rows)


def summary(cells: Cells) -> str:
    """Say in how many cells a sign wins, against as many one-sided latents and against twice as many."""
    places = cells.places()
    same = [cells.difference(place) for place in places]
    lowest, highest = (f"{100 * pick(found.mean for found in same):+.0f}" for pick in (min, max))
    of_twice = [place for place in cells.compared() if cells.difference(place, twice=True).is_lower]
    won = sum(found.is_lower for found in same)
    kinds = "; ".join(sorted({place.kind for place in of_twice})) or "none"
    return (
        f"Against as many one-sided latents, the signed SAE has the lower FVU in {won} of {len(places)} cells\n"
        f"(the whole interval below 0), {lowest} to {highest} %. Against twice as many, in {len(of_twice)} of "
        f"{len(cells.compared())}:\n{kinds}."
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
        found = [100 * cells.difference(place, twice=twice).mean for place in places]
        return f"{min(found):+.1f} to {max(found):+.1f} %"

    narrow, wide = ([place for place in cells.places() if place.f_over_d == width] for width in (0.25, 1.0))
    kinds = {place.kind for place in wide}
    others = [place for place in narrow if place.kind in kinds]
    of_differences = "; ".join(
        f"{each.kind} {cells.difference(each).text} % ({cells.difference(each, twice=True).text} % to 2F)"
        for each in (place for place in narrow if place not in others)
    )
    return (
        f"With selection for each vector and k = {narrow[0].k}, a sign hardly matters for {len(others)} kinds: "
        f"{spread(others)} of FVU to F at D/4\n({spread(others, twice=True)} to 2F), {spread(wide)} at F = D. It does "
        f"at D/4 for two more:\n{of_differences}."
    )


def statistics_table(cells: Cells, statistics: Mapping[str, Mapping[str, float]]) -> str:
    """Make a table of the statistics of each kind, and of how well each predicts the difference to F."""
    kinds, target = list(found := gained(cells)), np.array(list(found.values()))
    values = np.array([[statistics[kind][name] for name in SignStatistics._fields] for kind in kinds])
    rows = [
        (kind, f"{100 * ratio:+.1f}", *(f"{value:.3g}" for value in of_kind))
        for kind, ratio, of_kind in zip(kinds, target, values, strict=True)
    ]
    correlations = [f"{spearmanr(column, target)[0]:+.2f}" for column in values.T]
    errors = [_left_out(column[:, None], target) for column in values.T]
    rows.append(("*rank correlation*", "", *correlations))
    # the mean of the other kinds predicts without a statistic
    without = _left_out(np.zeros((len(kinds), 1)), target)
    rows.append(
        ("*error of a kind left out, points*", f"{100 * without:.1f}", *(f"{100 * each:.1f}" for each in errors))
    )
    names = (name.replace("_", " ") for name in SignStatistics._fields)
    return markdown_table(("kind", "to F, %", *names), rows)


def gained(cells: Cells) -> dict[str, float]:
    """Return the difference to one-sided SAEs of the same width of each kind that has the common place."""
    places = {kind: Place(kind, *COMMON) for kind in cells.kinds()}
    return {kind: cells.difference(place).mean for kind, place in places.items() if place in cells.places()}


def _left_out(x: np.ndarray, y: np.ndarray) -> float:
    """Return the mean absolute error of a line that is fitted to the other kinds."""
    return float(np.abs(cross_val_predict(LinearRegression(), x, y, cv=LeaveOneOut()) - y).mean())


def synthetic_table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Make a table of FVU and recovery on known features: a row a size, a column a share of two-sided features."""
    at = {(line["superposition"], line["f_over_d"], line["two_sided"]): line["saes"] for line in lines}

    def of(saes: Sequence[Mapping[str, float]], share: float, key: str) -> list[float]:
        return [each[key] for each in saes if each["share"] == share]

    def change(saes: Sequence[Mapping[str, float]], share: float) -> str:
        return f"{100 * seed_by_seed(of(saes, share, 'fvu'), of(saes, 0.0, 'fvu')).mean:+.0f}"

    def cell(saes: Sequence[Mapping[str, float]], two_sided: float) -> str:
        of_share = f" ({change(saes, two_sided)})" if 0 < two_sided < 1 else ""
        recovered = "&nbsp;".join(f"{mean(of(saes, share, 'recovery')):.2f}".lstrip("0") for share in (0.0, 1.0))
        return f"{change(saes, 1.0)}{of_share}; {recovered}"

    rows = [
        (f"{size[0]:g}", f"{size[1]:g}", *(cell(at[*size, two_sided], two_sided) for two_sided in TWO_SIDED))
        for size in sorted({key[:2] for key in at})
    ]
    return markdown_table(("features / D", "F / D", *(f"p = {two_sided:g}" for two_sided in TWO_SIDED)), rows)


def recipe_errors(lines: Sequence[Mapping[str, Any]]) -> dict[tuple[str, float, str], list[float]]:
    """Return FVUs by kind, F / D and recipe; a value for each seed."""
    return {(line["kind"], line["f_over_d"], line["recipe"]): [sae["fvu"] for sae in line["saes"]] for line in lines}


def recipes_table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Make a table of the FVU of each recipe, in percent of one-sided SAEs of as many latents."""
    at = recipe_errors(lines)

    def difference(kind: str, f_over_d: float, recipe: str, times: float = 1.0) -> str:
        return str(seed_by_seed(at[kind, times * f_over_d, recipe], at[kind, f_over_d, "one-sided"]))

    rows = [(shown, *(difference(*place, recipe) for place in RECIPE_PLACES)) for recipe, shown in RECIPE_NAMES.items()]
    wider = (difference(*place, "one-sided", AS_MANY_PARAMETERS) for place in RECIPE_PLACES)
    rows.append((f"one-sided, {AS_MANY_PARAMETERS:g} F", *wider))
    places = (f"{kind}, F = {f_over_d:g} D" for kind, f_over_d in RECIPE_PLACES)
    return markdown_table(("FVU to one-sided F, %", *places), rows)


def gated_errors(lines: Sequence[Mapping[str, Any]], sae: str, l0: float) -> list[float]:
    """Return the FVU of Gated SAEs of one kind, interpolated at an L0; a value for each seed."""
    seeds = sorted({line["seed"] for line in lines})
    of_seeds = ([line for line in lines if (line["sae"], line["seed"]) == (sae, seed)] for seed in seeds)
    return [fvu_at(found, l0) for found in of_seeds]


def gated_table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Make a table of the FVU of Gated SAEs at each L0."""
    rows = []
    for l0 in GATED_L0:
        signed, *others = (gated_errors(lines, sae, l0) for sae in ("signed F", "one-sided F", "one-sided 2F"))
        shown = (f"{mean(each):.3f}"[1:] for each in (signed, *others))
        rows.append((f"{l0}", *shown, *(str(seed_by_seed(signed, other)) for other in others)))
    return markdown_table(("L0", "signed F", "one-sided F", "one-sided 2F", "to F, %", "to 2F, %"), rows)


def one_pass(lines: Sequence[Mapping[str, Any]], repeated: Cells) -> str:
    """Compare the cell whose SAEs see no vector twice with the cell of the map."""
    cells, rows = Cells(lines), lines[0]["rows"]["train"]
    (place,) = cells.compared()
    now, before = ([of.difference(place, twice=twice).text for twice in (False, True)] for of in (cells, repeated))
    return (
        f"In training, vectors of the map are repeated up to four times. With {rows:,}, none of them twice, the\n"
        f"FVU of the signed SAE of {place.kind} (k = {place.k}, F = {place.f_over_d:g} D) is {now[0]} % to F\n"
        f"and {now[1]} % to 2F (in the map: {before[0]} and {before[1]})."
    )


def loss_table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Make a table of how far SAEs in place move the predictions of the model, beside their FVU."""
    rows = []
    for line in lines:
        (kl, kl_ratios), (fvu, fvu_ratios) = ((of_saes(line[key]), against(line, key)) for key in ("kl", "fvu"))
        moved = "&nbsp;".join(f"{1000 * mean(values):.2f}" for values in kl.values())
        errors = "&nbsp;".join(f"{mean(values):.3f}"[1:] for values in fvu.values())
        rows.append((line["kind"], errors, *map(str, fvu_ratios), moved, *map(str, kl_ratios)))
    return markdown_table(("kind", "FVU", "to F, %", "to 2F, %", "KL, nats / 1000", "to F, %", "to 2F, %"), rows)


def of_saes(values: Mapping[str, float]) -> dict[str, list[float]]:
    """Return a number of the SAEs by what they are; a value for each seed."""
    found: dict[str, list[float]] = {}
    for name, value in values.items():
        found.setdefault(name.split()[0], []).append(value)
    return found


def coverage_table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Make a table of how well one latent covers concepts, and tells their poles apart."""
    rows = []
    for line in lines:
        of = {key: by_sae(line, key) for key in ("coverage", "density", "auroc")}
        cells = ["&nbsp;".join(f"{mean(of['coverage'][sae]):.2f}"[1:] for sae in COVERING)]
        cells.append(str(seed_by_seed(of["coverage"]["signed"], of["coverage"]["untrained"])))
        cells.append("&nbsp;".join(f"{100 * mean(of['density'][sae]):.0f}" for sae in COVERING[:2]))
        cells.append("&nbsp;".join(f"{mean(of['auroc'][sae]):.3f}"[1:] for sae in COMPARED))
        rows.append((line["kind"], *cells))
    header = ("kind", "coverage", "signed to untrained, %", "fires on, %", "AUROC of one latent")
    return markdown_table(header, rows)


def by_sae(line: Mapping[str, Any], key: str) -> dict[str, list[float]]:
    """Return the mean over concepts of a number of the probed SAEs by what they are; a value for each seed."""
    return of_saes({name: mean(sae[key].values()) for name, sae in line["saes"].items()})


def against(line: Mapping[str, Any], key: str) -> list[Difference]:
    """Compare a number of the signed SAEs to that of the one-sided ones of F and of 2F latents."""
    signed, *others = of_saes(line[key]).values()
    return [seed_by_seed(signed, other) for other in others]


def page() -> str:
    """Return the page with the numbers of the records."""
    cells, statistics = Cells.read(RECORD), json.loads(STATISTICS.read_text(encoding="utf-8"))["kinds"]
    parts = {
        "summary": summary(cells),
        "cells": cells_table(cells),
        "other fine-tune": other_fine_tune(Cells.read(OTHER_FINE_TUNE)),
        "per vector": per_vector(Cells.read(PER_VECTOR)),
        "synthetic": synthetic_table(read(SYNTHETIC)),
        "recipes": recipes_table(read(RECIPES)),
        "gated": gated_table(read(GATED)),
        "one pass": one_pass(read(ONE_PASS), cells),
        "loss": loss_table(read(LOSS)),
        "coverage": coverage_table(read(COVERAGE)),
        "statistics": statistics_table(cells, statistics),
    }
    return filled(PAGE.read_text(encoding="utf-8"), parts)


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    draw(Cells.read(RECORD), PICTURE)


if __name__ == "__main__":
    main()
