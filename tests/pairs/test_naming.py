"""Names say what was planted, do not depend on which text is A, and are unnamed where nothing predicts the code."""

import numpy as np
from hypothesis import given
from scipy.stats import spearmanr

from sae_lens_abstopk.pairs.naming import AxisName, choose_name, marker_candidates, name_axes, word_differences
from sae_lens_abstopk.pairs.rank_correlation import correlation_interval, correlations, signed_ranks, without
from sae_lens_abstopk.pairs.words import AxisWords, PoleWord, pole_words
from sae_lens_abstopk.text.markers.measure import MARKERS, measure
from tests.pairs.turning import negated, swapped_texts, swaps

RNG = np.random.default_rng(0)
WORDS = np.array([f"{a}{b}m" for a in "bcdfghklmn" for b in "aeiou"])
N = 400
PROMPTS, HELD_OUT = np.arange(N) // 2, np.arange(N) % 4 < 1


def text(n: int = 12) -> str:
    return " ".join(RNG.choice(WORDS, n))


def planted() -> tuple[np.ndarray, list[str], list[str]]:
    """Return codes of four axes and texts: lists, length, a word, and nothing."""
    codes = RNG.choice([-1.0, 0.0, 1.0], (N, 4)) * RNG.uniform(1, 2, (N, 4))
    a, b = [], []
    for lists, length, word, _ in codes:
        more, less = text(), text()
        for code, change in (
            (length, lambda each: f"{each} {text(40)}"),
            (word, lambda each: f"{each} zebra"),
            (lists, lambda each: "\n- ".join(["", *each.split()])),
        ):
            more, less = (change(more), less) if code > 0 else (more, change(less)) if code < 0 else (more, less)
        a.append(more)
        b.append(less)
    return codes, a, b


CODES, A, B = planted()


def names(codes: np.ndarray, a: list[str], b: list[str]) -> list[AxisName]:
    markers = measure(a) - measure(b)
    words = pole_words(codes * ~HELD_OUT[:, None], a, b, prompts=PROMPTS)
    parts = {"held_out": HELD_OUT, "prompts": PROMPTS, "components": PROMPTS}
    return name_axes(codes, markers, words, a, b, **parts)


def test_planted_lists_length_and_words_are_named_at_both_ends_and_noise_is_not() -> None:
    lists, length, word, noise = names(CODES, A, B)
    assert (lists.name_positive, lists.name_negative) == ("lists", "running text")
    assert (length.name_positive, length.name_negative) == ("long", "short")
    assert word.name_positive == "“zebra”"
    assert word.name_negative == "no “zebra”"
    assert all(each.named and each.fidelity and (each.fidelity.low or 0) > 0.5 for each in (lists, length, word))
    assert not noise.named


def test_negated_codes_swap_the_ends() -> None:
    for one, other in zip(names(CODES, A, B), names(-CODES, A, B), strict=True):
        assert (one.name_positive, one.name_negative) == (other.name_negative, other.name_positive)
        assert one.named == other.named


@given(swaps)
def test_names_do_not_depend_on_which_text_is_a(swap: np.ndarray) -> None:
    turn = np.resize(swap, N)
    candidates = marker_candidates(measure(A) - measure(B))
    turned = marker_candidates(measure(swapped_texts(A, B, turn)[0]) - measure(swapped_texts(A, B, turn)[1]))
    for code, other in zip(CODES.T[:2], negated(CODES, turn).T[:2], strict=True):
        one, two = choose_name(code, candidates), choose_name(other, turned)
        assert one
        assert two
        assert one[:2] == two[:2]


def test_correlations_are_spearmans_of_pairs_in_both_orders() -> None:
    x, y = RNG.integers(-3, 4, (2, 60)).astype(float)
    both = spearmanr(np.r_[x, -x], np.r_[y, -y])
    found = correlations(signed_ranks(x), signed_ranks(y)[:, None], np.arange(60))
    assert np.isclose(found.rho[0], both.statistic)
    interval, p = correlation_interval(x, y, np.arange(60), seed=0)
    assert interval.value is not None
    assert np.isclose(interval.value, both.statistic)
    assert abs(np.log10(p) - np.log10(both.pvalue)) < 3
    rest = without(np.stack([x, y], axis=1), y[:, None])
    assert np.allclose(rest[:, 1], 0)
    assert np.allclose(rest[:, 0] @ y, 0)


def test_p_values_of_unrelated_codes_are_uniform() -> None:
    """Five in a hundred are below .05, with pairs that come in groups of four of one sign."""
    random = np.random.default_rng(1)
    group = np.arange(240) // 4
    below = [
        correlation_interval(
            random.normal(size=60)[group] * random.uniform(0.5, 1, 240), random.normal(size=60)[group], group, seed=0
        )[1]
        < 0.05
        for _ in range(60)
    ]
    assert np.mean(below) <= 0.15


def test_words_of_either_side_are_told_apart() -> None:
    words = [AxisWords([PoleWord("red fox", 3.0), PoleWord("fox", 2.0)], [], 9)]
    assert word_differences(words, ["the red fox", "no"], ["no", "a red fox"])["red fox"].tolist() == [1, -1]
    assert list(word_differences(words, ["a"], ["b"])) == ["red fox"], "the second has a word in common with the first"
    assert len(marker_candidates(np.zeros((2, len(MARKERS))))) == len(MARKERS)


def test_an_axis_that_is_never_active_is_unnamed() -> None:
    assert names(0 * CODES, A, B) == [AxisName()] * 4
    assert correlations(np.zeros(0), np.zeros((0, 2)), np.zeros(0, dtype=np.int64)).rho.tolist() == [0, 0]
