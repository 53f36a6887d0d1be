"""Tables of the map beside its cells: recipes for signed latents, Gated SAEs, and how far predictions move."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from experiments.embeddings.measured import Difference, seed_by_seed
from experiments.map.gated import fvu_at
from experiments.pages import markdown_table

Line = Mapping[str, Any]
RECIPES = {
    "signed": "signed",
    "two biases": "signed, a bias for each pole",
    "two encoders": "signed, an encoder row for each pole",
    "closed poles": "signed, weak poles closed",
    "one-sided, dense": "one-sided beside a dense path",
    "signed, dense": "signed beside a dense path",
}
BASELINE = "one-sided"
PLACES = {
    ("residual stream, layer 15", 2.0): "residual stream, 2 D, %",
    ("sentence means", 0.25): "sentence means, D/4, %",
}
WIDER = 1.5
"""Width of one-sided SAEs with the parameters of two encoder rows, over that of the others."""
L0S = (16, 32, 64, 128)


def recipes_table(lines: Sequence[Line]) -> str:
    """Make a table of the FVU of each recipe, relative to one-sided SAEs of the same width at each place."""
    at = {(line["kind"], line["f_over_d"], line["recipe"]): [sae["fvu"] for sae in line["saes"]] for line in lines}

    def cell(kind: str, f_over_d: float, recipe: str, times: float = 1.0) -> str:
        found = at.get((kind, times * f_over_d, recipe))
        return str(seed_by_seed(found, at[kind, f_over_d, BASELINE])) if found else ""

    rows = [(shown, *(cell(*place, recipe) for place in PLACES)) for recipe, shown in RECIPES.items()]
    rows.append(("one-sided, 1.5 F", *(cell(*place, BASELINE, WIDER) for place in PLACES)))
    return markdown_table(("FVU to one-sided F", *PLACES.values()), rows)


def gated_table(lines: Sequence[Line]) -> str:
    """Make a table of the FVU of Gated SAEs, interpolated at some L0: mean over seeds."""
    kinds = dict.fromkeys((line["kind"], line["sae"]) for line in lines)
    rows = []
    for kind, sae in kinds:
        of_seed: dict[int, list[dict[str, float]]] = {}
        for line in lines:
            if (line["kind"], line["sae"]) == (kind, sae):
                of_seed.setdefault(line["seed"], []).append({"l0": line["l0"], "fvu": line["fvu"]})
        errors = (mean(fvu_at(found, l0) for found in of_seed.values()) for l0 in L0S)
        rows.append((kind, sae, *(f"{error:.3f}"[1:] for error in errors)))
    return markdown_table(("Gated SAEs of", "", *(f"L0 {l0}" for l0 in L0S)), rows)


def loss_table(lines: Sequence[Line]) -> str:
    """Make a table of KL(model || model with the SAE in place), in thousandths of a nat, and its differences."""
    rows = []
    for line in lines:
        kl = {
            name: [value for key, value in line["kl"].items() if key.split()[0] == name]
            for name in ("signed", "F", "2F")
        }
        differences: list[Difference] = [seed_by_seed(kl["signed"], kl[other]) for other in ("F", "2F")]
        shown = "&nbsp;".join(f"{1000 * mean(values):.1f}" for values in kl.values())
        rise = f"{line['ce_mean'] - line['ce_clean']:.3f}"
        rows.append((line["kind"], f"{line['k']}", f"{line['f_over_d']:g}", rise, shown, *map(str, differences)))
    header = ("kind", "k", "F / D", "loss added by the mean", "KL, 1/1000 nat", "to F, %", "to 2F, %")
    return markdown_table(header, rows)
