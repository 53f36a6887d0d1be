"""Made-up pairs with known axes: one draw, of the forty of the record."""

import json

import pytest

from experiments.pairs.planted import RESULTS, measured, summary, true_effects


@pytest.mark.slow
def test_every_axis_of_a_draw_is_found_and_its_effect_lies_in_the_interval() -> None:
    found = summary([measured(0)])
    assert found["axes_found"] == 1
    assert found["effects_inside"] >= 7 / 8
    assert found["effects_inside_of_redrawn"] >= 0.9
    assert found["confirmed_of_true"] == 1
    assert found["false_share_of_confirmed"] == 0


def test_the_record_says_what_is_found_of_what_was_planted() -> None:
    record = json.loads(RESULTS.read_text())
    assert record["planted"]["effects"] == pytest.approx(true_effects().tolist())
    assert record["draws"] == 40
    assert record["axes_found"] > 0.98
    assert record["effects_inside"] > 0.9
    assert record["effects_inside_of_redrawn"] >= 0.945
    assert record["false_share_of_confirmed"] <= 0.05
    assert summary(record["by_draw"]) == {key: record[key] for key in summary(record["by_draw"])}
