"""The choice of learning rates."""

import json
import math
from typing import Any

from experiments.study import runs, tune


def test_every_variant_is_tuned_or_derived_from_one_that_is() -> None:
    whole = runs.read_study()
    assert sorted([*whole["tuned"], *whole["rate_of"]]) == sorted(whole["variants"])
    assert set(whole["rate_of"].values()) <= set(whole["tuned"])
    assert runs.rate_of("abstopk_unit_norm", whole, {"abstopk": 5e-4}) == 5e-4
    assert runs.rate_of("topk", whole, {"abstopk": 5e-4}) is None


def test_another_rate_has_to_be_better_by_more_than_seeds_differ() -> None:
    def best(*points: tuple[float, float | None]) -> dict[str, float]:
        found: list[dict[str, Any]] = [{"variant": "topk", "lr": lr, "fvu": fvu} for lr, fvu in points]
        return tune.best(found, (5e-4, 1e-3, 2e-3), 1e-3)

    assert best((1e-3, 0.2), (5e-4, 0.1991), (2e-3, 0.3)) == {"topk": 1e-3}
    assert best((1e-3, 0.2), (5e-4, 0.1989), (2e-3, None)) == {"topk": 5e-4}
    assert best((1e-3, None), (5e-4, 0.3)) == {"topk": 5e-4}
    assert best((1e-3, 0.2), (5e-4, 0.3)) == {}, "a rate beside the best was not tried"
    assert best((5e-4, 0.2)) == {}, "the usual rate was not tried"
    assert best((1e-3, None), (5e-4, None), (2e-3, None)) == {}
    recorded = json.loads(runs.TUNING.read_text())
    assert tune.best(recorded["points"], runs.read_study()["rates"], 1e-3) == recorded["best"]


def test_rates_are_tried_outwards_until_the_best_lies_between_two() -> None:
    fvu = {2.5e-4: 0.5, 5e-4: 0.4, 1e-3: 0.3, 2e-3: 0.2, 4e-3: 0.25, 8e-3: math.inf}
    tried: dict[float, float] = {}
    rounds = []
    while left := tune.still_to_try(tried, list(fvu), 1e-3):
        rounds.append(left)
        tried |= {rate: fvu[rate] for rate in left}
    assert rounds == [[5e-4, 1e-3, 2e-3], [4e-3]]
    assert tune.still_to_try({2e-3: 0.2}, list(fvu), 1e-3) == [5e-4, 1e-3], "the usual rate says where to begin"
    assert tune.still_to_try({1e-3: 0.2, 5e-4: 0.3, 2.5e-4: 0.1}, list(fvu), 1e-3) == [], "there is no lower one"
