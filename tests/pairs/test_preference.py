"""Preferences of axes: independent of which text is A, equal to plain computations, and right about planted axes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binom, chi2_contingency, t
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from sae_lens_abstopk.evaluation.results.records import Interval
from sae_lens_abstopk.pairs.disagreement import disagreements, homogeneity_p
from sae_lens_abstopk.pairs.effects import Effects, false_discovery, preference_effects
from sae_lens_abstopk.pairs.prediction import predict_preferences, turned_auroc
from sae_lens_abstopk.pairs.preferences import Preferences
from tests.pairs.planted import LENGTH_AXIS, planted_effects, planted_pairs
from tests.pairs.turning import negated, swaps

RNG = np.random.default_rng(0)
CODES = RNG.normal(size=(60, 3)) * (RNG.random((60, 3)) < 0.8)
LENGTH = RNG.normal(size=60)
VECTORS = RNG.normal(size=(60, 5)).astype(np.float32)
PREFERRED = RNG.choice([1.0, -1.0, 0.0, np.nan], 60, p=[0.45, 0.45, 0.05, 0.05])
COMPONENTS = np.repeat(np.arange(30), 2)
HELD_OUT = COMPONENTS % 3 == 0


def everything(swap: np.ndarray) -> str:
    """Return all numbers, to the last bit."""
    parts: dict[str, Any] = {
        "codes": negated(CODES, swap),
        "log_length": negated(LENGTH, swap),
        "components": COMPONENTS,
    }
    preferred = negated(PREFERRED, swap)
    everywhere = Preferences.of(preferred, **parts)
    train, held_out = (Preferences.of(preferred, **parts, among=part) for part in (~HELD_OUT, HELD_OUT))
    effects = preference_effects(everywhere)
    return repr(
        (
            everywhere.win_rates(resamples=50),
            (effects.effects, effects.p.tolist(), effects.q.tolist()),
            disagreements(everywhere, [str(row % 2) for row in everywhere.rows], resamples=50),
            predict_preferences(train, held_out, negated(VECTORS, swap).__getitem__, resamples=50),
        )
    )


UNSWAPPED = everything(np.zeros(60, dtype=bool))


@given(swaps)
def test_nothing_depends_on_which_text_is_a(swap: np.ndarray) -> None:
    assert everything(swap) == UNSWAPPED


def test_win_rates_count_the_pairs_in_which_the_side_with_more_won() -> None:
    pairs = Preferences.of(PREFERRED, codes=CODES, log_length=LENGTH, components=COMPONENTS)
    for axis, found in enumerate(pairs.win_rates()):
        judged = np.flatnonzero((np.abs(PREFERRED) == 1) & (CODES[:, axis] != 0))
        won = np.sign(CODES[judged, axis]) == PREFERRED[judged]
        drawn = [RNG.choice(30, 30) for _ in range(2000)]
        by_component = [(won[COMPONENTS[judged] == c].sum(), (COMPONENTS[judged] == c).sum()) for c in range(30)]
        resampled = [np.divide(*np.sum([by_component[c] for c in draw], axis=0)) for draw in drawn]
        assert found.value == won.mean()
        # the interval is a little wider than the percentiles of the slow loop, as Student's is than the normal
        assert (found.low, found.high) == pytest.approx(np.quantile(resampled, [0.021, 0.979]), abs=0.02)


def test_effects_and_errors_are_those_of_a_plain_regression_by_finite_differences() -> None:
    """The error is that of the infinitesimal jackknife: how the effect moves as one component counts a little more."""
    planted = planted_pairs(np.random.default_rng(3), 80)
    columns = np.column_stack([planted.codes, planted.log_length])
    found = preference_effects(planted.turned())

    def effects(weights: np.ndarray) -> np.ndarray:
        x = columns / np.sqrt(np.average(columns**2, weights=weights, axis=0))
        model = LogisticRegression(C=1, fit_intercept=False, solver="newton-cholesky", tol=1e-12)
        w = model.fit(x, planted.preferred, sample_weight=weights).coef_[0]
        steps = 1e-4 * np.eye(len(w))
        slopes = [(expit((x + step) @ w) - expit((x - step) @ w)) / 2e-4 for step in steps]
        return np.average(slopes, weights=weights, axis=1)

    influence = [
        (effects(1 + 1e-3 * member) - effects(1 - 1e-3 * member)) / 2e-3
        for member in (planted.components == np.arange(80)[:, None]).astype(float)
    ]
    spare = 80 - columns.shape[1]
    error = np.sqrt(np.sum(np.square(influence), axis=0) * 80 / spare)[:-1]
    values = effects(np.ones(len(columns)))[:-1]
    assert [each.value for each in found.effects] == pytest.approx(values, abs=1e-6)
    measured = [axis for axis, each in enumerate(found.effects) if each.low is not None]
    assert len(measured) > 5
    for axis in measured:
        half = t.ppf(0.975, spare) * error[axis]
        assert found.effects[axis].high - values[axis] == pytest.approx(half, rel=0.02)
        assert found.p[axis] == pytest.approx(2 * t.sf(abs(values[axis]) / error[axis], spare), rel=0.1)


def test_planted_effects_lie_in_their_intervals_and_few_axes_are_false() -> None:
    truth, draws = planted_effects(), 100
    inside, false_shares, found, length_wins = 0, [], 0, 0
    for seed in range(draws):
        pairs = planted_pairs(np.random.default_rng(seed), 400).turned()
        effects = preference_effects(pairs)
        ends = np.array([(each.low, each.high) for each in effects.effects])
        inside += ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).sum()
        chosen = effects.q <= 0.05
        false_shares.append((chosen & (truth == 0)).sum() / max(chosen.sum(), 1))
        found += chosen[truth != 0].sum()
        length_wins += pairs.win_rates(resamples=100)[LENGTH_AXIS].low > 0.5
    assert inside >= binom.ppf(0.01, draws * len(truth), 0.95)
    assert np.mean(false_shares) <= 0.05 + 2 * np.std(false_shares) / draws**0.5
    assert found >= 1.8 * draws
    assert length_wins == draws  # though it has no effect at equal length


def test_confirmed_axes_are_chosen_on_train_and_on_the_same_side_held_out() -> None:
    def effects(q: list[float], ends: list[tuple[float, float] | None]) -> Effects:
        each = [Interval(value=0, low=end and end[0], high=end and end[1], n_units=9) for end in ends]
        return Effects(each, np.array(q), np.array(q))

    train = effects([0.01, 0.01, 0.01, 0.2, 0.01, np.nan], [(1, 2), (1, 2), (-2, -1), (1, 2), (1, 2), None])
    held_out = effects([0.9] * 6, [(1, 3), (-1, 3), (1, 2), (1, 2), None, None])
    assert train.confirmed_by(held_out).tolist() == [True, False, False, False, False, False]


def test_axes_on_too_few_components_have_no_interval() -> None:
    codes, length, components, preferred = planted_pairs(np.random.default_rng(0), 100)
    codes[:, 0] = 0
    codes[components >= 19, 1] = 0
    pairs = Preferences.of(preferred, codes=codes, log_length=length, components=components)
    found = preference_effects(pairs)
    assert found.effects[0].value is None
    assert found.effects[1].value is not None
    assert found.effects[1].low is None
    assert np.isnan(found.q).tolist() == [True, True, *[False] * 6]
    few = Preferences.of(preferred, codes=codes, log_length=length, components=components, among=components < 6)
    assert np.isnan(preference_effects(few).p).all()


def test_benjamini_hochberg_by_hand() -> None:
    q = false_discovery(np.array([0.03, 0.01, np.nan, 0.9, 0.02]))
    assert q == pytest.approx([0.04, 0.04, np.nan, 0.9, 0.04], nan_ok=True)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.integers(0, 9))
def test_auroc_counts_pairs_in_both_orders(margins: list[int], seed: int) -> None:
    drawn = np.random.default_rng(seed).integers(0, 3, (4, len(margins))) + (np.arange(len(margins)) == 0)
    scores = np.array(margins, dtype=float)
    found = turned_auroc(scores)(drawn.astype(float))
    for weights, auroc in zip(drawn, found, strict=True):
        rows = np.repeat(scores, weights)
        assert auroc == pytest.approx(roc_auc_score(np.repeat([1, 0], len(rows)), np.r_[rows, -rows]))


def test_predictions_rank_vectors_codes_and_lengths_by_what_they_know() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3000, 20))
    components = np.arange(3000) // 3
    log_odds = 2 * vectors[:, 0] + vectors[:, 1]
    preferred = np.where(rng.random(3000) < expit(log_odds), 1.0, -1.0)
    train, held_out = (
        Preferences.of(preferred, codes=vectors[:, :1], log_length=vectors[:, 1], components=components, among=part)
        for part in (components < 600, components >= 600)
    )
    found = predict_preferences(train, held_out, vectors.__getitem__)
    both = np.r_[held_out.signs, -held_out.signs]

    def best(scores: np.ndarray) -> float:
        known = scores[held_out.rows]
        return float(roc_auc_score(both, np.r_[known, -known]))

    assert found.auc_vector.value == pytest.approx(best(log_odds), abs=0.01)
    assert found.auc_codes.value == pytest.approx(best(vectors[:, 0]), abs=1e-6)
    assert found.auc_length.value == pytest.approx(best(vectors[:, 1]), abs=1e-6)
    kept = (found.auc_codes.value - 0.5) / (found.auc_vector.value - 0.5)
    assert found.share_kept.value == pytest.approx(kept)
    assert 0.7 < found.share_kept.low < kept < found.share_kept.high < 1
    assert found.auc_codes.n_units == 400


def test_equal_win_rates_are_tested_as_by_chi_square_where_pairs_are_independent() -> None:
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, 3000)
    won = rng.random(3000) < np.array([0.5, 0.5, 0.55])[group]
    table = [[(won & (group == g)).sum(), (~won & (group == g)).sum()] for g in range(3)]
    p = homogeneity_p(won, group, np.arange(3000))
    assert p == pytest.approx(chi2_contingency(table, correction=False).pvalue, rel=0.05)
    copied = homogeneity_p(np.repeat(won, 5), np.repeat(group, 5), np.repeat(np.arange(3000), 5))
    assert copied == pytest.approx(p)


def test_groups_that_disagree_about_an_axis_are_named() -> None:
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(1500, 3)) * (rng.random((1500, 3)) < 0.5)
    group = rng.integers(0, 3, 1500)
    log_odds = np.array([-1, 0, 1])[group] * codes[:, 1] + codes[:, 2]
    preferred = np.where(rng.random(1500) < expit(log_odds), 1.0, -1.0)
    pairs = Preferences.of(preferred, codes=codes, log_length=codes[:, 0], components=np.arange(1500) // 2)
    names = [f"annotator {number}" for number in group]
    names[:5] = ["seldom"] * 5
    found = disagreements(pairs, names)
    assert [each.q <= 0.05 for each in found] == [False, True, False]
    assert found[1].groups == ("annotator 0", "annotator 2")
    lowest, highest = found[1].win_rates
    assert lowest.high < 0.5 < highest.low


def test_groups_that_always_prefer_the_same_side_do_not_disagree() -> None:
    assert homogeneity_p(np.ones(80, bool), np.arange(80) % 2, np.arange(80)) == 1
    codes = np.ones((80, 1))
    pairs = Preferences.of(np.ones(80), codes=codes, log_length=codes[:, 0], components=np.arange(80))
    (found,) = disagreements(pairs, ["first", "second"] * 40)
    assert found is not None
    assert (found.q, found.groups) == (1, ("first", "second"))
