"""The report of the map: its numbers are those of the record, of any part of it."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from experiments.embeddings.measured import seed_by_seed
from experiments.map.measured import EIGHTH, Cells, Place, draw
from experiments.map.report import (
    PAGE,
    RECIPE_NAMES,
    RECIPE_PLACES,
    against,
    by_sae,
    cells_table,
    gained,
    gated_errors,
    lines,
    page,
    recipe_errors,
    statistics_table,
)
from experiments.map.run import RECORD

README = PAGE.parents[1] / "README.md"
FVU = {1.0: (0.45, 0.43), 0.125: (0.5, 0.51), 0.0: (0.5, 0.5)}


def line(kind: str, f_over_d: float, gain: float = 1.0, k: int = 8) -> Any:
    """A line of the record: of twice a width that is compared, one-sided SAEs only."""
    fvu = {0.0: (0.4, 0.4)} if f_over_d == 0.5 else FVU
    saes = [
        {"share": share, "seed": seed, "fvu": value * (gain if share else 1), "l0": 8.0, "dead": 0.0}
        for share, values in fvu.items()
        for seed, value in enumerate(values)
    ]
    stability = {str(share): 0.5 for share in fvu}
    return {"kind": kind, "selection": "batch", "k": k, "f_over_d": f_over_d, "saes": saes, "stability": stability}


KINDS = {"pairs": 1.0, "tokens": 1.1, "outputs": 1.05}
CELLS = Cells([line(kind, width, gain) for kind, gain in KINDS.items() for width in (0.25, 0.5)])


def test_errors_are_compared_with_one_and_with_twice_the_width() -> None:
    place = Place("pairs", "batch", 8, 0.25)
    assert CELLS.difference(place).mean == pytest.approx(-0.12)
    assert CELLS.difference(place, twice=True).mean == pytest.approx(0.10)
    assert CELLS.difference(place, EIGHTH).mean == pytest.approx(0.01)
    assert Cells([line("pairs", 0.25)]).compared() == []


def test_kinds_are_in_the_order_of_what_a_sign_gains(tmp_path: Path) -> None:
    assert CELLS.kinds() == ["pairs", "outputs", "tokens"]
    table = cells_table(CELLS).splitlines()
    assert [row.split(" | ")[0] for row in table[2:]] == ["| pairs", "| outputs", "| tokens"]
    assert ".440&nbsp;.505&nbsp;.500 | -12.0" in table[2]
    draw(CELLS, tmp_path / "map.svg")
    text = (tmp_path / "map.svg").read_text()
    assert all(kind in text for kind in KINDS)


def test_a_statistic_that_predicts_has_no_error_on_a_kind_left_out() -> None:
    statistics = {kind: dict.fromkeys(("weaker_side", "skewness", "rank"), float(len(kind))) for kind in KINDS}
    for kind, gain in KINDS.items():
        statistics[kind]["skewness"] = gain
    table = statistics_table(CELLS, statistics).splitlines()
    skewness = 3
    names, (*_, correlation, error) = table[0].split(" | "), [row.split(" | ") for row in table[2:]]
    assert names[skewness] == "skewness"
    assert (correlation[skewness], error[skewness]) == ("+1.00", "0.0")
    assert float(error[1]) > 1
    # layers of which other cells are known have no row
    known = Cells([line("wide", 1.0), *(line(kind, 0.25, gain) for kind, gain in KINDS.items())])
    assert gained(known) == pytest.approx({"pairs": -0.12, "outputs": -0.076, "tokens": -0.032})


def test_the_page_has_the_numbers_of_the_records_and_no_statistic_predicts() -> None:
    cells, record = Cells(lines("cells")), RECORD.with_name("statistics.json")
    assert page() == PAGE.read_text()
    errors = statistics_table(cells, json.loads(record.read_text())["kinds"]).splitlines()[-1].split(" | ")[1:]
    of_the_mean, *of_statistics = (float(each.strip(" |")) for each in errors)
    assert min(of_statistics) > of_the_mean


def test_what_a_sign_saves_and_costs_on_two_models_is_on_both_pages() -> None:
    both = (Cells(lines("cells")), Cells(lines("other_fine_tune")))
    of_twice, of_same = (
        [
            100 * cells.difference(place, twice=twice).mean
            for cells in both
            for place in cells.compared()
            if place.kind == "differences of two models"
        ]
        for twice in (True, False)
    )
    assert f"for {-max(of_same):.0f} to {-min(of_same):.0f} % less error than F, which depends" in PAGE.read_text()
    won, *lost = sorted(of_twice)
    said = (
        f"2F is ahead by {lost[0]:.1f} to {lost[-1]:.1f} % but for one cell, where the signed SAE is, by {-won:.1f} %"
    )
    assert said in " ".join((PAGE.parent / "diff.md").read_text().split())


def test_how_many_latents_of_the_widest_cells_are_dead_is_among_the_limits() -> None:
    cells = Cells(lines("cells"))
    widest = [place for place in cells.places() if place.f_over_d == 8]
    signed, one_sided = (sorted(100 * cells.mean(place, share, "dead") for place in widest) for share in (1.0, 0.0))
    said = f"{signed[0]:.0f} to {signed[-1]:.0f} % of the signed ones are dead there, {one_sided[0]:.0f} to "
    assert said + f"{one_sided[-1]:.0f} % of one-sided ones" in " ".join(PAGE.read_text().split())


def test_the_readme_has_what_outputs_of_attention_gain_on_twice_the_width() -> None:
    cells = Cells(lines("cells"))
    layers = [place for place in cells.compared() if place[0].startswith("attention") and place[2:] == (32, 1)]
    gains = sorted(-100 * cells.difference(place, twice=True).mean for place in layers)
    assert len(layers) == 3
    assert f"it is {gains[0]:.1f} to {gains[-1]:.1f} % below twice the width" in " ".join(README.read_text().split())


def test_the_lower_error_of_outputs_of_attention_shows_in_predictions() -> None:
    (attention,) = (line for line in lines("loss") if line["kind"].startswith("attention"))
    assert all(difference.is_lower for key in ("fvu", "kl") for difference in against(attention, key))
    of_twice = -100 * against(attention, "kl")[1].mean
    assert f"and the KL of predictions {of_twice:.1f} %" in " ".join(README.read_text().split())


def test_signed_latents_cover_no_more_than_untrained_ones_and_tell_poles_apart_no_better() -> None:
    *_, of_stream = record = lines("coverage")
    for line in record:
        covered, auroc = by_sae(line, "coverage"), by_sae(line, "auroc")
        assert not seed_by_seed(covered["untrained"], covered["signed"]).is_lower
        assert not seed_by_seed(auroc["F"], auroc["signed"]).is_lower
        assert max(covered["F"] + covered["2F"]) <= 0.5
    assert of_stream["kind"].startswith("residual stream")
    density = by_sae(of_stream, "density")
    assert 2 * sum(density["signed"]) < sum(density["untrained"])


def test_half_the_latents_of_a_gated_sae_are_enough_where_many_are_active() -> None:
    record, claims = lines("gated"), " ".join(PAGE.read_text().split())
    change = {
        l0: 100 * seed_by_seed(*(gated_errors(record, sae, l0) for sae in ("signed F", "one-sided 2F"))).mean
        for l0 in (16, 32, 40, 64)
    }
    assert f"L0 64: FVU {-change[64]:.0f} % below that of twice the latents" in claims
    assert f"L0 32: {change[32]:.0f} % above, L0 16: {change[16]:.0f} % above" in claims
    assert abs(change[40]) < 1


def test_no_recipe_for_signed_latents_has_less_error_than_one_sided_ones() -> None:
    errors = recipe_errors(lines("recipes"))
    for (kind, f_over_d), recipe in itertools.product(RECIPE_PLACES, RECIPE_NAMES):
        one_sided = errors[kind, f_over_d, "one-sided, dense" if recipe.endswith("dense") else "one-sided"]
        assert not seed_by_seed(errors[kind, f_over_d, recipe], one_sided).is_lower, (kind, recipe)
