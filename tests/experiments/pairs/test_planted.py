"""Made-up pairs with known axes: one draw, of the hundred of the record."""

import json

import numpy as np
import pytest

from experiments.pairs.planted import RESULTS, WEIGHTS, measured, summary, true_effects


@pytest.mark.slow
def test_every_axis_of_a_draw_is_found_and_its_effect_lies_in_the_interval() -> None:
    found = summary([measured(0)])
    assert found["axes_found"] == 1
    assert found["effects_inside"] >= 7 / 8
    assert found["confirmed_of_true"] == 1
    assert found["false_share_of_confirmed"] == 0


def test_the_record_of_a_hundred_draws_keeps_what_intervals_promise() -> None:
    record = json.loads(RESULTS.read_text())
    assert record["planted"]["effects"] == pytest.approx(true_effects().tolist())
    assert (record["draws"], record["axes_found"]) == (100, 1)
    assert record["effects_inside"] >= 0.95 - 2 * (0.95 * 0.05 / (100 * len(WEIGHTS))) ** 0.5
    assert record["false_share_of_confirmed"] <= 0.05
    assert summary(record["by_draw"]) == {key: record[key] for key in summary(record["by_draw"])}
    assert np.min([each["cosine"] for each in record["by_draw"]]) >= 0.9
