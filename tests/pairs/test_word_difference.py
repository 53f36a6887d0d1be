"""Which words of two texts differ."""

import time

from hypothesis import given
from hypothesis import strategies as st

from sae_lens_abstopk.pairs.word_difference import differing_words

TEXTS = st.text(alphabet="ab .,\n", max_size=60) | st.text(max_size=40)


@given(TEXTS, TEXTS)
def test_parts_make_up_the_texts_and_shared_parts_have_the_same_words(a: str, b: str) -> None:
    parts = differing_words(a, b)
    assert ("".join(parts[0]), "".join(parts[1])) == (a, b)
    if len(parts[0]) > 1 or len(parts[1]) > 1:
        shared = ["".join("".join(each[::2]).split()) for each in parts]
        assert shared[0] == shared[1]


def test_a_changed_word_is_marked_without_its_spaces() -> None:
    assert differing_words("The cat  sat on the mat.", "The cat  lay on the mat.") == (
        ["The cat  ", "sat", " on the mat."],
        ["The cat  ", "lay", " on the mat."],
    )
    assert differing_words("one two three", "one three") == (["one ", "two", " three"], ["one three"])
    assert differing_words("no word", "is shared") == (["no word"], ["is shared"])


def test_long_texts_of_few_words_take_no_time() -> None:
    started = time.perf_counter()
    differing_words("a b " * 1000, "b a b " * 1000)
    differing_words("w" * 4000, ("w" * 9 + " ") * 400)
    assert time.perf_counter() - started < 5
