"""The summary of doses made up by hand, of which every number is known."""

import numpy as np
import pytest

from sae_lens_abstopk.evaluation.steering.doses import Dose
from sae_lens_abstopk.evaluation.steering.steering_summary import matched_strength, summarise
from tests.evaluation.same_numbers import assert_same


def dose(strength: float, log_odds: list[float], cost: float, score: list[float] | None = None) -> Dose:
    return Dose(
        strength=strength,
        log_odds=tuple(log_odds),
        scores=None if score is None else tuple(score),
        generated_nll=(3.0 + abs(strength), 4.0 + abs(strength)),
        neutral_nll=(2.0 + cost, 3.0 + cost),
        texts=(("x",),) * len(log_odds),
    )


BASELINE = dose(0, [1.0, -1.0], 0, [0.0, 0.0])
PLUS = [dose(1, [2.0, 0.0], 0.2, [0.5, 0.5]), dose(2, [3.0, 1.0], 1.0, [1.0, 1.0])]
MINUS = [dose(-1, [0.5, -1.5], 0, [-0.25, -0.25]), dose(-2, [0.0, -2.0], 0.1, [-0.5, -0.5])]


def matched(doses: list[Dose], budget: float) -> tuple[float, bool]:
    """With costs between the doses that lie on lines between theirs."""

    def cost_at(strength: float) -> float:
        costs = [dose.neutral_nll[0] - BASELINE.neutral_nll[0] for dose in doses]
        return float(np.interp(strength, [abs(dose.strength) for dose in doses], costs))

    return matched_strength(BASELINE, doses, budget, cost_at)


def test_the_strength_is_the_one_that_costs_the_budget() -> None:
    assert matched([BASELINE, *PLUS], 0.6) == (pytest.approx(1.5), True)  # costs 0.2 at 1 and 1.0 at 2
    assert matched([BASELINE, *PLUS], 0.1) == (pytest.approx(0.5), True)
    assert matched([BASELINE, *MINUS], 0.6) == (2.0, False), "no dose costs it"


def test_the_search_is_not_held_up_by_a_cost_of_zero_or_a_curve() -> None:
    for dear in (0.05, 0.2, 0.8):  # nats at strength 1, with its square from there
        measured = []

        def cost_of(strength: float, dear: float = dear) -> float:
            return dear * strength**2

        def cost_at(strength: float, measured: list[float] = measured, dear: float = dear) -> float:
            measured.append(strength)
            return cost_of(strength, dear)

        doses = [dose(s, [0, 0], cost_of(s)) for s in (0, 0.5, 1, 2, 4)]
        found, reached = matched_strength(doses[0], doses, 0.1, cost_at)
        assert reached
        assert cost_of(found) == pytest.approx(0.1, rel=0.01)
        assert not {0, 0.5, 1, 2, 4} & set(measured), "a dose is not measured again"


def test_a_dose_that_breaks_the_model_is_dear_and_not_free() -> None:
    nan = float("nan")
    broken = [*PLUS, dose(4, [nan, nan], nan, [0.0, 0.0])]
    found = matched_strength(BASELINE, [BASELINE, *broken], 1.5, lambda s: s - 1 if s <= 2.5 else nan)
    assert found == (pytest.approx(2.5, rel=0.01), True)
    whole, cut = (
        summarise(BASELINE, [*MINUS, BASELINE, *plus], ((MINUS[1], True), (PLUS[1], True)), budget=1.5)
        for plus in (PLUS, broken)
    )
    assert_same(cut.towards_b.log_odds_area, whole.towards_b.log_odds_area)


def test_a_cost_that_goes_up_and_down_is_made_to_rise() -> None:
    noisy = [BASELINE, dose(1, [0, 0], 0.8), dose(2, [0, 0], 0.4), dose(4, [0, 0], 1.2)]
    # .8 and .4 become .6 and .6: a budget of .7 is met between 2 and 4, not before 1
    assert matched(noisy, 0.3)[0] == pytest.approx(0.375)
    assert matched(noisy, 0.7)[0] == pytest.approx(2.75)


def test_effects_cost_area_and_symmetry_are_the_formulas() -> None:
    found = summarise(BASELINE, [*MINUS, BASELINE, *PLUS], ((MINUS[1], False), (PLUS[1], True)), budget=1.0)
    assert found.towards_b.log_odds.value == pytest.approx(2.0)
    assert found.towards_a.log_odds.value == pytest.approx(1.0)
    assert found.towards_b.score.value == pytest.approx(1.0)
    assert found.towards_b.generated_cost.value == pytest.approx(2.0)
    assert found.towards_a.neutral_cost.value == pytest.approx(0.1)
    assert found.towards_a.neutral_cost.n_units == 2
    # from (0, 0) to (.2, 1) to (1, 2), over a budget of 1
    assert found.towards_b.log_odds_area.value == pytest.approx(0.2 * 0.5 + 0.8 * 1.5, abs=1e-3)
    # the dose at -1 is free, so the curve starts at .5; beyond .1 the effect at -2 is held
    assert found.towards_a.log_odds_area.value == pytest.approx(0.1 * 0.75 + 0.9 * 1.0, abs=1e-2)
    assert found.symmetry.value == pytest.approx(0.5)
    assert (found.towards_a.reached, found.towards_b.reached) == (False, True)
    assert found.towards_b.log_odds.low is None  # both prompts change by as much


def test_two_directions_to_one_pole_have_no_symmetry_and_no_scorer_gives_no_score() -> None:
    wrong, right = dose(-2, [3.0, 1.0], 1.0), dose(2, [3.0, 1.0], 1.0)
    found = summarise(dose(0, [1.0, -1.0], 0), [wrong, BASELINE, right], ((wrong, True), (right, True)), budget=1.0)
    assert found.symmetry.value == 0
    assert found.towards_a.log_odds.value == pytest.approx(-2.0)
    assert found.towards_b.score is None


def test_a_clamp_whose_zero_costs_more_than_the_budget_is_not_matched() -> None:
    at_zero = dose(0, [0.5, -1.5], 0.8, [0.0, 0.0])
    assert matched([at_zero, *PLUS], 0.4) == (0.0, False)
    curve = [*MINUS, at_zero, *PLUS]
    summary = summarise(BASELINE, curve, ((MINUS[1], False), (at_zero, True)), budget=1.0)
    # nothing for costs below .5, the mean of .8 and .2; from there an effect of 1, which leads to 2 at a cost of 1
    assert summary.towards_b.log_odds_area.value == pytest.approx(0.5 * 1.5, abs=2e-2)
