"""Words of poles do not depend on which text is A, follow the published formula, and are those that were planted."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from scipy.optimize import brentq
from scipy.stats import false_discovery_control, norm

from sae_lens_abstopk.pairs.words import FALSE_DISCOVERIES, FEWEST_TEXTS, log_odds_z, phrases_of, pole_words
from tests.pairs.turning import negated, swapped_texts, swaps

RNG = np.random.default_rng(0)
COMMON = [f"word{letter}" for letter in "abcdefghijkl"]


# no phrase goes across two function words
BETWEEN = " of the "


def text(*also: str) -> str:
    return BETWEEN.join([*RNG.choice(COMMON, 5), *also])


A, B = [text() for _ in range(60)], [text() for _ in range(60)]
CODES = RNG.normal(size=(60, 3)) * (RNG.random((60, 3)) < 0.6)
# more of axis 0 goes with one word, less of it with another
for row, code in enumerate(CODES[:, 0]):
    if code:
        A[row] += BETWEEN + ("Sure" if code > 0 else "nope’s")
        B[row] += BETWEEN + ("nope's" if code > 0 else "sure")
PROMPTS = np.arange(60) // 2


@given(swaps)
def test_words_do_not_depend_on_which_text_is_a(swap: np.ndarray) -> None:
    swapped = pole_words(negated(CODES, swap), *swapped_texts(A, B, swap), prompts=PROMPTS)
    assert swapped == pole_words(CODES, A, B, prompts=PROMPTS)


def test_negated_codes_swap_the_poles() -> None:
    found, negative = (pole_words(codes, A, B, prompts=PROMPTS) for codes in (CODES, -CODES))
    for axis, turned in zip(found, negative, strict=True):
        for pole, same in ((axis.positive, turned.negative), (axis.negative, turned.positive)):
            assert dict(pole) == pytest.approx(dict(same))


def test_planted_words_are_found() -> None:
    planted = pole_words(CODES, A, B, prompts=PROMPTS)[0]
    assert [pole[0].word for pole in planted[:2]] == ["sure", "nope's"]


def test_z_is_that_of_the_published_formula_less_what_lengths_explain() -> None:
    """Counts of texts, pair by pair, and equations 15 to 22 of Monroe et al. in plain loops."""
    more, less, prior = Counter(), Counter(), Counter()
    sizes = Counter(PROMPTS[CODES[:, 0] != 0].tolist())
    read = np.flatnonzero(CODES.any(1))
    for row in read.tolist():
        code, of_a, of_b = CODES[row, 0], set(phrases_of(A[row])), set(phrases_of(B[row]))
        prior.update(of_a ^ of_b)
        for word in of_a ^ of_b if code else ():
            side = more if (word in of_a) == (code > 0) else less
            side[word] += 1 / sizes[PROMPTS[row]]
    size = (sum(more.values()) + sum(less.values())) / 2

    texts = {side[row]: set(phrases_of(side[row])) for side in (A, B) for row in read.tolist()}

    def chances(word: str) -> dict[str, float]:
        """Return the probability that each text has the word, if all texts use it at one rate."""
        has = sum(word in words for words in texts.values())
        rate = brentq(lambda r: sum(1 - math.exp(-r * len(words)) for words in texts.values()) - has, 0, 100)
        return {text: 1 - math.exp(-rate * len(words)) for text, words in texts.items()}

    def usual(word: str) -> list[float]:
        """y+ and y- if nothing but the lengths told them apart."""
        chance, only = chances(word), [0.0, 0.0]
        for row in read.tolist():
            if code := CODES[row, 0]:
                of_more, of_less = (chance[text] for text in (A[row], B[row])[:: 1 if code > 0 else -1])
                only[0] += of_more * (1 - of_less) / sizes[PROMPTS[row]]
                only[1] += of_less * (1 - of_more) / sizes[PROMPTS[row]]
        return [(more[word] + less[word]) * each / sum(only) for each in only]

    expected = {word: usual(word) for word in prior}

    def z(word: str) -> float:
        alpha = size * prior[word] / sum(prior.values())
        seen, n = [more[word], less[word]], [sum(more.values()), sum(less.values())]
        lengths_explain = [sum(each[i] for each in expected.values()) for i in (0, 1)]
        odds = [
            math.log((y[i] + alpha) / (n[i] + size - y[i] - alpha))
            for y, n in ((seen, n), (expected[word], lengths_explain))
            for i in (0, 1)
        ]
        return (odds[0] - odds[1] - odds[2] + odds[3]) / math.sqrt(sum(1 / (each + alpha) for each in seen))

    texts_with = Counter(word for words in texts.values() for word in words)
    tested = [word for word, count in texts_with.items() if count >= FEWEST_TEXTS]
    q = false_discovery_control([2 * norm.sf(abs(z(word))) for word in tested])
    sure = [word for word, each in zip(tested, q, strict=True) if each <= FALSE_DISCOVERIES]
    planted = pole_words(CODES, A, B, prompts=PROMPTS)[0]
    assert planted.n_tested == len(tested)
    for pole, sign in ((planted.positive, 1), (planted.negative, -1)):
        assert {word.word: word.z for word in pole} == pytest.approx(
            {word: sign * z(word) for word in sure if sign * z(word) > 0}
        )


def test_repeated_words_and_many_pairs_of_one_prompt_are_no_more_evidence() -> None:
    longer = [each + f"{BETWEEN}Sure" * 9 if "Sure" in each else each for each in A]
    assert pole_words(CODES, longer, B, prompts=PROMPTS) == pole_words(CODES, A, B, prompts=PROMPTS)
    four_times = (np.repeat(CODES, 4, axis=0), np.repeat(A, 4).tolist(), np.repeat(B, 4).tolist())
    for one, four in zip(
        pole_words(CODES, A, B, prompts=PROMPTS),
        pole_words(*four_times, prompts=np.repeat(PROMPTS, 4)),
        strict=True,
    ):
        assert [word.z for word in one.positive] == pytest.approx([word.z for word in four.positive])


def test_axes_without_pairs_and_texts_without_words_have_no_words() -> None:
    for codes, a, b in ((0 * CODES, A, B), (CODES, ["!"] * 60, ["\U0001f600"] * 60), (CODES, ["one"] * 60, [""] * 60)):
        assert all(axis[:2] == ([], []) for axis in pole_words(codes, a, b, prompts=PROMPTS))


def test_a_word_in_both_corpora_alike_has_z_of_zero() -> None:
    counts = np.array([5.0, 2.0])
    assert log_odds_z(counts, counts, counts / 7).tolist() == [0, 0]


def test_words_that_longer_texts_have_anyway_are_left_out() -> None:
    """The words of the pole of long texts are the planted ones, not those that any long text has."""
    rng = np.random.default_rng(1)
    words = np.array([f"{a}{b}" for a in "bcdfghklmn" for b in ("a", "e", "i", "o", "u")])
    often = np.linspace(1, 0.02, len(words))
    size = rng.uniform(10, 200, (2, 600))
    a, b = ([" ".join(rng.choice(words, round(n), p=often / often.sum())) for n in of_side] for of_side in size)
    codes = size[0] - size[1]
    for row in np.flatnonzero(rng.random(600) < 0.5):
        (a if codes[row] > 0 else b)[row] += " planted"
    found = pole_words(codes[:, None], a, b, prompts=np.arange(600))[0]
    assert found.positive[0].word == "planted"
    # of 50 words at 1.96 standard errors; nine and more where lengths explain nothing
    assert len(found.positive) + len(found.negative) <= 1 + 4


def test_phrases_begin_and_end_with_content() -> None:
    found = phrases_of("The list of steps is a long list")
    assert found == {"list", "steps", "long", "list of steps", "long list"}
