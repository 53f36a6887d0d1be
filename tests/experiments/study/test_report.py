"""The pages of the study: their tables are those of the record, and compare what can be compared."""

import csv
import io
import re
from statistics import mean
from typing import Any

import pytest

from experiments.map.report import PAGE as MAP
from experiments.study import columns, concept_tables, record, report, runs, tables
from experiments.study.concept_tables import MATCHED, random_lines


def run(variant: str, seed: int = 0, *, layer: int = 15, k: int = 57, fvu: float = 1.0, **more: Any) -> dict[str, Any]:
    """A line of the record."""
    place = {"layer": layer, "expansion": 8, "k": k, "variant": variant, "seed": seed}
    errors = {"fvu": fvu, "nmse": fvu / 2 + 0.5}
    training = {"lr": 1e-3, "dead_latents": 0}
    return {**place, "reconstruction": errors, "training": training, "sae": {"d_sae": 1000}, **more}


def test_the_pages_and_csv_tables_are_what_the_record_says() -> None:
    for path, text in report.pages(list(record.recorded().values()), runs.read_study()).items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is stale: python -m experiments.study.report"
    assert {path.name for path in report.CSV.iterdir()} == set(
        re.findall(r"tables/(.*?csv)", report.TABLES.read_text())
    )


def test_csv_tables_load_with_one_row_per_run_and_pair() -> None:
    lines = record.recorded()
    found = {path.stem: list(csv.DictReader(io.StringIO(path.read_text()))) for path in report.CSV.iterdir()}
    assert len(found["runs"]) == len(lines)
    pairs = [row for row in found["pairs"] if (row["variant"], row["against"]) == ("batch_abstopk", "batchtopk")]
    assert min(float(row["FVU"]) for row in pairs if row["expansion"] == "8") > 0.1


def test_numbers_in_the_text_of_the_pages_are_in_their_tables() -> None:
    block = re.compile(r"<!-- (\w+) -->(.*?)<!-- end of \1 -->", re.DOTALL)
    read = (report.PAGE, report.TABLES, MAP)
    pages = "".join(page.read_text(encoding="utf-8") for page in read)
    measured = [float(number) for _, table in block.findall(pages) for number in re.findall(r"\d+\.\d+", table)]
    measured += averages((report.CSV / "runs.csv").read_text())
    told = re.findall(r"\b0\.\d{3,4}\b", block.sub("", pages))
    assert len(told) > 15
    assert [text for text in told if all(f"{number:.{len(text) - 2}f}" != text for number in measured)] == []


def averages(table: str) -> list[float]:
    """Every number of a CSV table, and the mean of each column over the seeds of a variant."""
    found: dict[tuple[str, ...], list[float]] = {}
    for row in csv.DictReader(io.StringIO(table)):
        for name, text in row.items():
            if re.fullmatch(r"-?[\d.]+", text):
                at = (row["layer"], row["expansion"], row["k"], row["variant"], name)
                found.setdefault(at, []).append(float(text))
    return [number for numbers in found.values() for number in (*numbers, mean(numbers))]


def test_variants_are_compared_seed_by_seed() -> None:
    study = runs.read_study()
    lines = [run("mixed_32nd", 0, fvu=0.9), run("topk", 0), run("mixed_32nd", 1, fvu=1.1), run("topk", 1)]
    lines += [run("mixed_32nd", 2, fvu=5.0), run("topk", 0, k=29)]
    assert tables.paired_table(lines, study).splitlines() == [
        "| FVU of | layer 15, k = 57 | layer 15, k = 29 |",
        "|---|---|---|",
        "| mixed_32nd against topk | +0.0% (-10.0% to +10.0%) | - |",
    ]
    nmse = tables.paired_table(lines, study, metric="nMSE").splitlines()
    assert nmse[2:] == ["| mixed_32nd against topk | +0.0% (-5.0% to +5.0%) | - |"]
    assert tables.paired_table([], study) == "Nothing is recorded yet."

    assert tables.fvu_table(lines, study).splitlines()[2:] == [
        "| mixed_32nd | 2.3333 (3) | - |",
        "| topk | 1.0000 (2) | 1.0000 |",
    ]


@pytest.mark.parametrize(
    ("page", "variants"),
    [
        ("README.md", ("abstopk", "batch_abstopk", "mixed_32nd")),
        ("docs/evidence.md", ("abstopk", "batch_abstopk", "mixed_32nd")),
        ("docs/train.md", ("mixed_32nd",)),
    ],
)
def test_the_cost_of_a_sign_on_a_page_is_the_recorded_one(page: str, variants: tuple[str, ...]) -> None:
    lines = list(record.recorded().values())
    text = " ".join((runs.ROOT / page).read_text(encoding="utf-8").split())
    baselines = {"abstopk": ("topk", ".0f"), "batch_abstopk": ("batchtopk", ".0f"), "mixed_32nd": ("batchtopk", ".1f")}
    for variant in variants:
        other, form = baselines[variant]
        places = [columns.by_variant(lines, layer=layer, expansion=8, k=57) for layer in (8, 15, 22)]
        costs = [100 * mean(tables.excesses(found[variant], found[other])) for found in places]
        assert f"{min(costs):{form}} to {max(costs):{form}} %" in text, variant


def test_public_sets_are_resampled_with_the_shipped_task_of_their_concept() -> None:
    shipped = {path.stem for path in (runs.ROOT / "evals" / "tasks").glob("*.yaml")}
    assert set(concept_tables.SAME_CONCEPT.values()) <= shipped
    tasks = next(iter(record.recorded().values()))["tasks"]
    assert {task for task in tasks if task.startswith("public/")} == set(concept_tables.SAME_CONCEPT)


def test_what_a_sign_buys_is_what_the_record_says() -> None:
    lines = report.comparable(list(record.recorded().values()))
    place = runs.read_study()["main"]
    main, narrow, twice = (columns.by_variant(lines, **{**place, "expansion": n}) for n in (8, 1, 2))
    (higher,) = tables.excesses(narrow["batch_abstopk"], twice["batchtopk"])
    (lower,) = tables.excesses(narrow["batch_abstopk"], narrow["batchtopk"])
    (ours,), (theirs,) = columns.stability(main["abstopk"]), columns.stability(main["topk"])
    auroc = [mean(columns.auroc("single latent")(main[name])) for name in ("abstopk", "topk")]
    tense = [line["tasks"]["tense"]["best_coverage"][0] for line in main["abstopk"]]
    untrained = [line["best_coverage"]["tense"][0] for line in random_lines() if line["name"].startswith(MATCHED)]
    shares = [f"{share:.2f}".removeprefix("0") for found in (tense, untrained) for share in (min(found), max(found))]
    pages = (runs.ROOT / "README.md", report.PAGE, MAP)
    readme, page, claims = (" ".join(each.read_text(encoding="utf-8").split()) for each in pages)
    assert f"with 1 latent per dimension, FVU {-100 * lower:.0f} % below BatchTopK's." in readme
    assert f"(matched cosine {ours:.3f}, TopK {theirs:.3f})" in claims
    assert f"(FVU {-100 * lower:.0f} % below BatchTopK's)" in claims
    for sentence in (
        f"FVU {-100 * lower:.0f} % below BatchTopK's, but {100 * higher:.0f} % above BatchTopK's with twice",
        f"AbsTopK {auroc[0]:.3f}, TopK {auroc[1]:.3f} (layer 15, three seeds)",
        f"pole coverage {shares[0]} to {shares[1]} and",
        f"untrained {shares[2]} to {shares[3]} (",
    ):
        assert sentence in page
