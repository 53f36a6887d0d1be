"""Directions point to where the tuned model has more, and the best is chosen on other prompts, within the budget."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from experiments.finetunes.behaviours import BEHAVIOURS
from experiments.finetunes.directions import Direction, of_differences
from experiments.finetunes.planted import BUDGET, STRENGTHS, Edited, Planted

GOOD, ONE_WAY, OTHER = (Direction(name, torch.ones(2), 0.5) for name in ("3-", "4+", "5+"))
NEEDED = 4.0


@dataclass(frozen=True, eq=False)
class Fake(Edited):
    """A base (sign 1) or tuned model (-1) that changes its behaviour once GOOD is added with NEEDED."""

    price: float = 0.01

    def cost(self, direction, strength):  # noqa: ARG002
        return self.price * strength

    def answers(self, prompts, direction=None, strength=0.0):
        moved = direction is GOOD or (direction is ONE_WAY and self.sign > 0)
        changed = moved and strength >= NEEDED
        return ["Is it?" if changed == (self.sign > 0) else "It is."] * len(prompts)


def fake(sign: int, **options: Any) -> Fake:
    missing: Any = None
    return Fake(missing, missing, sign, 10.0, 8, **options)


def test_the_direction_that_brings_and_takes_away_the_behaviour_is_chosen():
    planted = Planted(fake(1), fake(-1), BEHAVIOURS["question"])
    assert planted.shares(planted.behaviour.held_out) == (0, 1)
    found = planted.measured([OTHER, ONE_WAY, GOOD])
    assert found["direction"] == "3-"
    assert (found["added"]["share"], found["subtracted"]["share"]) == (1, 0)
    assert all(NEEDED <= found[way]["strength"] <= BUDGET / 0.01 for way in ("added", "subtracted"))
    assert found["tried"] == {"5+": 0, "4+": 1, "3-": 1}


@pytest.mark.parametrize("price", [0.0, 0.01, 0.05, 1.0])
def test_the_strength_is_the_largest_within_the_budget(price):
    edited = fake(1, price=price)
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
