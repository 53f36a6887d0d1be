"""Features are those of the text; correlations are Spearman's of pairs in both orders, and name what was planted."""

import numpy as np
import pytest
from hypothesis import given
from scipy.stats import spearmanr

from sae_lens_abstopk.pairs.surface import FEATURES, main_feature, surface_correlations, surface_features
from tests.pairs.turning import negated, swaps

RNG = np.random.default_rng(0)
# ties and zeros on both sides
CODES = RNG.integers(-3, 4, (60, 4)).astype(float)
DIFFERENCES = RNG.integers(-2, 3, (60, 3)).astype(float)


@pytest.mark.parametrize(
    ("feature", "text", "value"),
    [
        ("length", "one two, three", np.log(4)),
        ("length", "東京", np.log(3)),
        ("list items", "Here:\n- one\n 2) two\n\nthree", 0.5),
        ("headings", "# A\n**B:**\ntext **c** d\n#no", 0.5),
        ("code", "Run:\n```\nx = 1\n```\ndone", 0.6),
        ("code", "Run:\n    x = 1\n    - item", 1 / 3),
        ("bold", "a **b** c", 0.25),
        ("links", "see https://a.b", 1 / 5),
        ("questions", "Who? Why？", 2 / 3),
        ("exclamations", "Oh! no", 1 / 3),
        ("first person", "I’m sure my cat is here", 2 / 7),
        ("refusal", "Well, I CAN’T do that", 1),
        ("refusal", "You can", 0),
        ("sentiment", "great and good, not bad", 1 / 6),
        ("digits", "ab12", 0.5),
        ("capitals", "AB cd", 0.5),
        ("other scripts", "aé ил", 0.5),
        ("other scripts", "12", 0),
    ],
)
def test_a_feature_is_that_of_its_text(feature: str, text: str, value: float) -> None:
    assert surface_features([text])[0, list(FEATURES).index(feature)] == pytest.approx(value)


def test_odd_texts_have_finite_features() -> None:
    texts = ["", " ", "\U0001f600", "```", "\u202etxt\u0000", "1", "- ", "<b>", "x" * 10_000]
    found = surface_features([*texts, *texts])
    assert np.isfinite(found).all()
    assert np.array_equal(found[: len(texts)], found[len(texts) :])


def test_correlations_are_spearmans_of_pairs_in_both_orders() -> None:
    found = surface_correlations(CODES, DIFFERENCES)
    for axis, code in enumerate(CODES.T):
        active = code != 0
        for feature, of_pair in enumerate(DIFFERENCES[active].T):
            both = spearmanr(np.r_[code[active], -code[active]], np.r_[of_pair, -of_pair])
            assert found[axis, feature] == pytest.approx(both.statistic)


@given(swaps)
def test_correlations_do_not_depend_on_which_text_is_a(swap: np.ndarray) -> None:
    swapped = surface_correlations(negated(CODES, swap), negated(DIFFERENCES, swap))
    assert np.array_equal(swapped, surface_correlations(CODES, DIFFERENCES))


def test_an_axis_of_length_is_named_so() -> None:
    sizes = RNG.integers(1, 50, (2, 80))
    of_a, of_b = (surface_features([" ".join(["word"] * size) for size in side]) for side in sizes)
    differences = of_a - of_b
    rare = np.r_[np.ones(5), np.zeros(75)]
    codes = np.stack([-differences[:, 0], RNG.normal(size=80), rare], axis=1)
    found = surface_correlations(codes, differences)
    assert found[0, list(FEATURES).index("length")] == pytest.approx(-1)
    assert list(map(main_feature, found)) == ["length", None, None]
    assert np.isnan(found[2]).all()
