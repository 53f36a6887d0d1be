"""Write the tables and the figure of the study of pairs into `docs/pairs.md`.

    python -m experiments.pairs.report

Reads the records in `results/`: `gpt4.json` of `study.py`, and `concepts.json`, the files `concepts.json` of
`abstopk pairs concepts --seed 0`, 10 and 20 as a list.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from experiments.pages import filled, markdown_table
from experiments.pairs.study import RESULTS
from sae_lens_abstopk.evaluation.figures.style import paper_style
from sae_lens_abstopk.evaluation.results.records import Interval
from sae_lens_abstopk.pairs.concepts import ConceptResults
from sae_lens_abstopk.pairs.pair_figure import effects_figure
from sae_lens_abstopk.pairs.pair_results import PairResults
from sae_lens_abstopk.pairs.telling_apart import ApartRecord, ConceptRecord

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "pairs.md"
PICTURE = ROOT / "docs" / "pictures" / "pairs.svg"
KINDS = ("signed", "one_sided_F", "one_sided_2F")
REWARDED = 8
FAILING = ("true", "false")


def fits(record: Mapping[str, Any]) -> str:
    """Make the table of errors and preferences, a row for each F and k."""
    rows = []
    for place in record["places"]:
        fvu = [place[kind]["fvu"]["value"] for kind in KINDS]
        auc = [mean(place[kind]["auc"]) for kind in KINDS]
        changes = [f"{100 * (fvu[0] / other - 1):+.1f}" for other in fvu[1:]]
        l0 = [place[kind]["l0"] for kind in KINDS]
        rows.append((f"{place['d_sae']}, {place['k']}", three(fvu), *changes, three(auc), three(l0, digits=1)))
    return markdown_table(("F, k", "FVU", "to F, %", "to 2F, %", "AUC of codes", "L0"), rows)


def whole(record: Mapping[str, Any]) -> str:
    """Say how much vectors and lengths know of the preferences."""
    found = PairResults.model_validate(record["axes"]).preference
    assert found is not None
    return (
        f"{record['n_pairs']:,} pairs, {record['n_held_out']:,} held out, in {record['n_components']:,} connected "
        f"groups. AUC from all of the vector: {number(found.auc_vector)}; from length only: "
        f"{number(found.auc_length)}."
    )


def rewarded(record: Mapping[str, Any]) -> str:
    """Make the table of the axes with the largest confirmed effects."""
    results = PairResults.model_validate(record["axes"])
    rows = []
    confirmed = [axis for axis in results.axes if axis.confirmed and axis.effect]
    for axis in sorted(confirmed, key=lambda axis: -abs((axis.effect and axis.effect.value) or 0))[:REWARDED]:
        assert axis.effect is not None
        assert axis.win_rate is not None
        fidelity = number(axis.fidelity, 2) if axis.named and axis.fidelity else ""
        stable = "" if axis.stability is None else f"{axis.stability:.0%}"
        rows.append((*axis.pole_names(), fidelity, number(axis.win_rate, 2), number(axis.effect), stable))
    header = ("more of", "less of", "fidelity", "win rate", "effect", "stable")
    shown = "" if len(confirmed) == len(rows) else f"; the {len(rows)} of largest effect"
    return f"{len(confirmed)} of {results.d_sae} axes are confirmed{shown}:\n\n{markdown_table(header, rows)}"


def concepts(runs: Sequence[ConceptResults]) -> str:
    """Make the table of means over concepts and runs of other seeds, with and without the concept that fails."""
    parts: dict[str, Callable[[ConceptRecord], ApartRecord]] = {
        "one signed latent": lambda each: each.saes["signed"],
        "one latent of F one-sided ones": lambda each: each.saes["one_sided_F"],
        "two of them": lambda each: each.latent_pairs["one_sided_F"],
        "two of 2F": lambda each: each.latent_pairs["one_sided_2F"],
        "the best principal component": lambda each: each.component,
        "the mean difference": lambda each: each.mean_difference,
    }
    rows = []
    for name, part in parts.items():
        found = [(each.poles, part(each)) for run in runs for each in run.concepts]
        measured = ([each for _, each in found], [each for poles, each in found if poles != FAILING])
        means = (mean(getattr(each, of) for each in some) for some in measured for of in ("auroc", "coverage"))
        rows.append((name, *(f"{value:.3f}" for value in means)))
    header = ("twelve concepts", "AUROC", "coverage", "AUROC without true / false", "coverage")
    return f"{markdown_table(header, rows)}\n\n{concept_errors(runs)}"


def concept_errors(runs: Sequence[ConceptResults]) -> str:
    """Say how the errors on the concepts' pairs compare."""
    fvu = [mean(run.fits[kind].fvu.value or 0 for run in runs) for kind in KINDS]
    changes = " and ".join(f"{100 * (fvu[0] / other - 1):+.1f} %" for other in fvu[1:])
    return f"FVU at L0 {runs[0].k:g}: {three(fvu)} ({changes})."


def three(values: Sequence[float], *, digits: int = 3) -> str:
    """Join numbers of signed, one-sided F and one-sided 2F."""
    return " / ".join(f"{value:.{digits}f}".removeprefix("0") for value in values)


def number(interval: Interval, digits: int = 3) -> str:
    """Format a number with its interval."""
    value, low, high = (
        f"{each:.{digits}f}" for each in (interval.value, interval.low, interval.high) if each is not None
    )
    return f"{value} ({low} to {high})"


def main() -> None:
    """Fill the page, and draw the figure."""
    gpt4 = json.loads((RESULTS / "gpt4.json").read_text())
    runs = [ConceptResults.model_validate(run) for run in json.loads((RESULTS / "concepts.json").read_text())]
    parts = {
        "fits": f"{whole(gpt4)}\n\n{fits(gpt4)}",
        "rewarded": rewarded(gpt4),
        "concepts": concepts(runs),
    }
    PAGE.write_text(filled(PAGE.read_text(), {name: f"\n{part}\n" for name, part in parts.items()}))
    with paper_style():
        effects_figure(PairResults.model_validate(gpt4["axes"])).savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    main()
