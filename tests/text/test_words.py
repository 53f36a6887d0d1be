"""Words in any script."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae_lens_abstopk.text.words import _any_word, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don’t re-use 'it' -- 3D", ["don't", "re-use", "it", "d"]),
        (
            "हिन्दी में",
            ["हिन्दी", "में"],
        ),
        ("東京2024", ["東", "京"]),
        ("ÉTÉ и лето", ["été", "и", "лето"]),
    ],
)
def test_words_keep_apostrophes_in_any_script(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@given(st.text(st.characters(max_codepoint=127)))
def test_the_pattern_for_ascii_finds_what_the_general_one_does(text: str) -> None:
    assert words_of(text) == re.findall(_any_word(), text.casefold())
