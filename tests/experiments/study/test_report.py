"""What the pages of the study say: its tables are those of the record, and compare what can be compared."""

import re
from collections.abc import Sequence
from math import isnan
from statistics import mean
from typing import Any

import pytest
import yaml

from experiments.study import (
    columns,
    concept_tables,
    record,
    report,
    runs,
    tables,
)
from experiments.study.random_directions import MATCHED, random_lines
from tests.experiments.study.test_study import SMALL


def test_the_page_is_what_the_record_says() -> None:
    lines = list(record.recorded().values())
    whole = yaml.safe_load((runs.HERE / "study.yaml").read_text())
    for path, text in report.pages(lines, whole).items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is stale: python -m experiments.study.report"


def test_the_faq_tells_minutes_of_whole_runs_at_the_main_width() -> None:
    def line(variant: str, minutes: int, d_sae: int = 4608, resumed: bool = False) -> dict[str, Any]:
        return {
            "variant": variant,
            "sae": {"d_sae": d_sae},
            "training": {"seconds": 60 * minutes, "resumed": resumed},
        }

    lines = [line("topk", 9), line("abstopk", 12), line("topk", 99, d_sae=9216), line("topk", 1, resumed=True)]
    lines += [line("gated", 58), line("sae_lens_abstopk", 61)]
    assert list(report.phrases(lines).values()) == [("9", "12", "10"), ("58", "61", "60")]


def test_numbers_in_the_text_of_the_page_are_in_its_tables() -> None:
    block = re.compile(r"<!-- (\w+) -->(.*?)<!-- end of \1 -->", re.DOTALL)
    pages = "".join(page.read_text(encoding="utf-8") for page in (report.PAGE, report.TABLES))
    measured = [float(number) for _, table in block.findall(pages) for number in re.findall(r"\d+\.\d+", table)]
    told = re.findall(r"\b0\.\d{3,4}\b", block.sub("", pages))
    assert len(told) > 20
    assert [text for text in told if all(f"{number:.{len(text) - 2}f}" != text for number in measured)] == []


def test_a_pair_of_seeds_counts_once_and_a_tie_has_no_density() -> None:
    first = {"name": "seed0", "stability": {"seed1": 0.5, "seed2": 0.7}}
    second = {"name": "seed1", "stability": {"seed0": 0.5}}
    assert sorted(columns.stability([first, second, {"name": "seed2", "stability": {}}])) == [0.5, 0.7]
    assert columns.best_density({"best_coverage": [0.6, 0.5, 0.7], "best_density": 0.3}) == 0.3
    assert isnan(columns.best_density({"best_coverage": [0.5, 0.5, 0.5], "best_density": 0.3}))
    assert isnan(columns.best_density({"best_coverage": [0.6, 0.5, 0.7]}))


def test_variants_are_compared_seed_by_seed() -> None:
    def line(variant: str, seed: int, fvu: float, k: int = 57, lr: float = 1e-3) -> dict[str, Any]:
        place = {"layer": 15, "k": k, "expansion": 8}
        errors = {"fvu": fvu, "nmse": fvu / 2 + 0.5}
        return {**place, "variant": variant, "seed": seed, "reconstruction": errors, "training": {"lr": lr}}

    lines = [line("mixed_8th", 0, 0.9), line("topk", 0, 1.0), line("mixed_8th", 1, 1.1), line("topk", 1, 1.0)]
    lines += [line("mixed_8th", 2, 5.0), line("topk", 0, 1.0, k=29)]
    whole = yaml.safe_load((runs.HERE / "study.yaml").read_text())
    assert tables.paired_table(lines, whole).splitlines() == [
        "| FVU of | layer 15, k = 57 | layer 15, k = 29 |",
        "|---|---|---|",
        "| mixed_8th against topk | +0.0% (-10.0% to +10.0%) | - |",
    ]
    assert tables.paired_table(lines, whole, metric="nMSE").splitlines()[2:] == [
        "| mixed_8th against topk | +0.0% (-5.0% to +5.0%) | - |"
    ]
    assert tables.paired_table([], whole) == "Nothing is recorded yet."

    # before its rate was chosen
    lines[0] = line("mixed_8th", 0, 0.9, lr=5e-4)
    assert tables.paired_table(lines, whole).splitlines()[2] == (
        "| mixed_8th against topk | +0.0% (-10.0% to +10.0%) † | - |"
    )
    assert tables.fvu_table(lines, whole).splitlines()[2:] == [
        "| mixed_8th | 2.3333 (3) † | - |",
        "| topk | 1.0000 (2) | 1.0000 |",
    ]


def test_a_task_that_was_not_measured_on_the_same_texts_is_in_no_mean() -> None:
    def line(name: str, seed: int, n_texts: int, auroc: float) -> dict[str, Any]:
        tasks = {
            task: {
                "texts": [9, 9, n],
                "groups": 3,
                "auroc": {
                    "single latent": [found, 0.1, 0.9],
                    "pair": [0.9, 0.1, 0.9],
                    "difference in means": [1, 0.1, 1],
                },
                "coverage": [0.5, 0.1, 0.9],
                "best_coverage": [0.5, 0.1, 0.9],
            }
            for task, n, found in (("tense", 9, 0.8), ("number", n_texts, auroc))
        }
        training = {"lr": runs.chosen_rates(SMALL)["mixed"]}
        return {"name": name, **SMALL["main"], "variant": "mixed", "seed": seed, "tasks": tasks, "training": training}

    same, differ = ([line("a", 0, 9, 0.6), line("b", 1, n_texts, 1.0)] for n_texts in (9, 8))
    one_latent = columns.PROBING["one latent"][0]
    assert one_latent(report.comparable(same)) == pytest.approx([0.7, 0.9])
    assert one_latent(report.comparable(differ)) == pytest.approx([0.8, 0.8])
    uneven = record.differing_tasks(differ)
    assert "Not measured on the same examples in every run: `number`;" in report.count(differ, SMALL, uneven)
    told = tables.uneven_tables(differ, SMALL, uneven)
    for n_texts, one in ((8, "1.000"), (9, "0.600")):
        assert f"**number, {n_texts} test texts, layer 2, k = 4**" in told
        assert f"| mixed | 1 | 1.000 | {one} | 0.900 | 0.500 | 0.500 |" in told
    assert told.count("test texts") == 2


def test_a_recipe_holds_where_it_is_no_worse_and_its_latents_live() -> None:
    def line(variant: str, layer: int, fvu: float, dead: int = 0, seed: int = 0) -> dict[str, Any]:
        place = {"layer": layer, "k": 57, "expansion": 8, "variant": variant, "seed": seed}
        return {**place, "reconstruction": {"fvu": fvu}, "training": {"dead_latents": dead}, "sae": {"d_sae": 1000}}

    whole = yaml.safe_load((runs.HERE / "study.yaml").read_text())
    lines = [line(variant, layer, 1.0) for variant in ("topk", "abstopk") for layer in (8, 15)]
    lines += [line("topk", 22, 1.0), line("topk", 15, 2.0, seed=1)]
    # lower but dead; equal to one and lower than none; higher in the mean of its seeds
    lines += [line("mixed_8th", 8, 0.9, dead=11), line("mixed_8th", 15, 1.0, dead=10), line("mixed_8th", 22, 1.01)]
    lines += [line("mixed_32nd", 15, 0.9), line("mixed_32nd", 15, 2.3, seed=1), line("mixed_64th", 8, 0.5, seed=2)]
    assert tables.recipe_table(lines, whole).splitlines()[2:] == [
        "| mixed_8th | topk -10.0%, abstopk -10.0%, dead 1.10% | topk +0.0%, abstopk +0.0%, dead 1.00% "
        "| topk +1.0%, dead 0.00% | 15 |",
        "| mixed_32nd | - | topk +2.5%, abstopk -10.0%, dead 0.00% | - | none |",
        "| mixed_64th | dead 0.00% | - | - | none |",
    ]
    assert tables.recipe_table([], whole) == "Nothing is recorded yet."


def test_runs_on_different_text_make_no_table() -> None:
    lines: list[dict[str, Any]] = [{"training": {"text_sha256": text}} for text in ("abc", "abc", "def")]
    report.require_one_text(lines[:2])
    with pytest.raises(SystemExit, match="2 on abc, 1 on def"):
        report.require_one_text(lines)


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("README.md", ("abstopk", "batch_abstopk", "mixed_32nd")),
        ("docs/evidence.md", ("abstopk", "batch_abstopk", "mixed_32nd")),
        ("docs/faq.md", ("abstopk", "batch_abstopk", "mixed_32nd")),
        ("docs/train.md", ("mixed_32nd",)),
    ],
)
def test_what_a_page_says_a_sign_costs_is_what_the_record_says(page: str, told: tuple[str, ...]) -> None:
    def cost(variant: str, other: str) -> list[float]:
        """Percent of FVU on each layer, the mean over the seeds that both have, at the main width and larger k."""
        found = {
            (line["layer"], line["seed"], line["variant"]): line
            for line in record.recorded().values()
            if (line["expansion"], line["k"]) == (8, 57)
        }
        ratios: dict[int, list[float]] = {}
        for (layer, seed, name), line in found.items():
            beside = found.get((layer, seed, other))
            if name == variant and beside is not None:
                ratio = line["reconstruction"]["fvu"] / beside["reconstruction"]["fvu"]
                ratios.setdefault(layer, []).append(100 * (ratio - 1))
        return [mean(each) for each in ratios.values()]

    text = " ".join((runs.HERE.parent / page).read_text(encoding="utf-8").split())
    for variant, other, form in (
        ("abstopk", "topk", ".0f"),
        ("batch_abstopk", "batchtopk", ".0f"),
        ("mixed_32nd", "batchtopk", ".1f"),
    ):
        costs = cost(variant, other)
        assert len(costs) == 3
        assert variant not in told or f"{min(costs):{form}} to {max(costs):{form}} %" in text, variant


def test_differences_are_paired_by_task_and_a_control_belongs_to_one_seed() -> None:
    names = ("tense", "public/ud_tense", "gender", "size")

    def line(variant: str, seed: int, covered: Sequence[float], sparse: float = 0.9) -> dict[str, Any]:
        tasks = {
            task: {
                "auroc": {"single latent": [0.9, 0.8, 1.0], "5-sparse": [sparse, 0.8, 1.0]},
                "best_coverage": [value, None, None],
            }
            for task, value in zip(names, covered, strict=True)
        }
        return {**SMALL["main"], "variant": variant, "seed": seed, "tasks": tasks}

    lines = [line("abstopk", 0, (0.9, 0.7, 0.5, 0.6)), line("abstopk", 1, (0.7, 0.6, 0.5, 0.5))]
    lines += [line("topk", 0, (0.5, 0.5, 0.5, 0.5), sparse=0.8)]
    control = {"name": "matched0", "best_coverage": {task: [0.5, 0, 1] for task in names}}
    table = concept_tables.paired_concepts_table(lines, [control], SMALL).splitlines()
    assert table[2] == "| abstopk - topk | 4 | +0.000 | +0.100 | - |"
    assert table[3].startswith("| abstopk, seed 0 - density-matched control | 4 | - | - | +0.175 [")
    assert table[4].startswith("| the same, without tense | 2 | - | - | +0.050 [")


def test_public_sets_are_resampled_with_the_shipped_task_of_their_concept() -> None:
    shipped = {path.stem for path in (runs.HERE.parent / "evals" / "tasks").glob("*.yaml")}
    assert set(concept_tables.SAME_CONCEPT.values()) <= shipped
    tasks = next(iter(record.recorded().values()))["tasks"]
    assert {task for task in tasks if task.startswith("public/")} == set(concept_tables.SAME_CONCEPT)


def test_what_the_readme_says_a_sign_buys_is_what_the_record_says() -> None:
    lines = report.comparable(list(record.recorded().values()))
    whole = yaml.safe_load((runs.HERE / "study.yaml").read_text())
    main, narrow, twice = (columns.by_variant(lines, **{**whole["main"], "expansion": n}) for n in (8, 1, 2))
    (higher,) = tables.excesses(narrow["batch_abstopk"], twice["batchtopk"])
    (lower,) = tables.excesses(narrow["batch_abstopk"], narrow["batchtopk"])
    (ours,), (theirs,) = columns.stability(main["abstopk"]), columns.stability(main["topk"])
    auroc = [mean(columns.auroc("single latent")(main[name])) for name in ("abstopk", "topk")]
    tense = [line["tasks"]["tense"]["best_coverage"][0] for line in main["abstopk"]]
    untrained = [line["best_coverage"]["tense"][0] for line in random_lines() if line["name"].startswith(MATCHED)]
    text = " ".join((runs.HERE.parent / "README.md").read_text(encoding="utf-8").split())
    for told in (
        f"FVU {-100 * lower:.0f} % below BatchTopK's, though {100 * higher:.0f} % above BatchTopK's with twice the latents",
        f"one pair of seeds that match better (cosine {ours:.3f} against TopK's {theirs:.3f};",
        f"(AUROC {auroc[0]:.3f}, TopK {auroc[1]:.3f}; three seeds)",
        f"pole coverage {min(tense):.2f} to {max(tense):.2f}; the best untrained ones",
        f"at matched density {min(untrained):.2f} to {max(untrained):.2f})",
    ):
        assert told in text


def test_doses_are_told_of_each_sae_that_has_them_with_what_they_cost() -> None:
    def line(variant: str, *doses: list[float | None]) -> dict[str, Any]:
        ways = {"latent": {"doses": [*doses]}, "clamp": {"doses": []}, "random_0": {"doses": [*doses]}}
        ways = ways if doses else {"latent": {}}
        return {"variant": variant, "steering": {"tense": {"interventions": ways}}}

    lines = [line("topk_2F", [-2.0, -1.5, 0.25], [0.0, 0.0, 0.0], [2.0, None, 0.5]), line("mixed")]
    assert concept_tables.dose_table(lines, SMALL).splitlines() == [
        "**tense**",
        "",
        "| steered with | -2 | +2 |",
        "|---|---|---|",
        "| latent of topk_2F | -1.50 (0.25) | - |",
        "| random 0, as long | -1.50 (0.25) | - |",
    ]
    assert concept_tables.dose_table(lines[1:], SMALL) == "Nothing is recorded yet."
