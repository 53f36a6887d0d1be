"""Directions point to where the tuned model has more, and the best is chosen on other prompts, within the budget."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from experiments.finetunes.behaviours import BEHAVIOURS
from experiments.finetunes.directions import Direction, of_differences
from experiments.finetunes.planted import BUDGET, STRENGTHS, EditedPair, Planted

GOOD, ONE_WAY, OTHER = (Direction(name, torch.ones(2), 0.5) for name in ("3-", "4+", "5+"))
NEEDED = 4.0


@dataclass(frozen=True, eq=False)
class Fake(EditedPair):
    """A pair whose base model asks once GOOD is patched in or added with NEEDED, and whose tuned one asks with it."""

    price: float = 0.01

    def cost_added(self, direction, strength):  # noqa: ARG002
        return self.price * strength

    def with_added(self, prompts, direction=None, strength=0.0):
        return _answers(prompts, direction in (GOOD, ONE_WAY) and strength >= NEEDED)

    def with_patched(self, prompts, direction):
        return _answers(prompts, direction in (GOOD, ONE_WAY))

    def with_removed(self, prompts, direction=None):
        return _answers(prompts, direction is not GOOD)


def _answers(prompts, asks):
    return ["Is it?" if asks else "It is."] * len(prompts)


def fake(**options: Any) -> Fake:
    missing: Any = None
    return Fake(missing, 10.0, 8, **options)


def test_the_direction_that_brings_and_takes_away_the_behaviour_is_chosen():
    planted = Planted(fake(), BEHAVIOURS["question"])
    assert planted.shares(planted.behaviour.held_out) == (0, 1)
    found = planted.measured([OTHER, ONE_WAY, GOOD])
    assert found["direction"] == "3-"
    assert [found[how]["share"] for how in ("added", "patched", "removed")] == [1, 1, 0]
    assert NEEDED <= found["added"]["strength"] <= BUDGET / 0.01
    assert found["tried_patched"] == {"5+": 0, "4+": 1, "3-": 1}
    assert found["tried_removed"] == {"4+": 1, "3-": 0}


@pytest.mark.parametrize("price", [0.0, 0.01, 0.05, 1.0])
def test_the_strength_is_the_largest_within_the_budget(price):
    edited = fake(price=price)
    within = [10 * each for each in STRENGTHS if price * 10 * each <= BUDGET]
    assert edited.strength(GOOD) == (within[-1] if within else 10 * STRENGTHS[0])


def test_components_point_to_their_pole_with_the_most_energy():
    x = torch.zeros(100, 8)
    x[:60, 1], x[60:80, 1], x[80:, 2] = -3.0, 1.0, 2.0
    found = of_differences(x)
    assert found["pca"][0].vector[1] < -0.9
    along = x @ found["pca"][0].vector
    assert found["pca"][0].share == pytest.approx(float(along.clamp(min=0).square().sum()) / 640, abs=1e-4)
    assert found["mean"][0].vector @ x.mean(0) == pytest.approx(x.mean(0).norm())
