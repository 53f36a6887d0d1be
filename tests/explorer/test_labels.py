"""Labels from tokens, and invisible characters."""

import pytest

from sae_lens_abstopk.explorer.labels import escape_invisible, label_of, top_tokens

UNSEEN = [
    ("a\u200bb\u202e\x07\u2028", "a⟨U+200B⟩b⟨U+202E⟩⟨U+0007⟩⟨U+2028⟩"),
    (" \xa0x\n\t    y", " ⟨U+00A0⟩x⏎⇥␣×4y"),
    ("\u200dمی\u200cخواهم \u200c", "⟨U+200D⟩می\u200cخواهم ⟨U+200C⟩"),
    ("👩\u200d🚀", "👩\u200d🚀"),
]


@pytest.mark.parametrize(
    ("firings", "label"),
    [
        ([], "never fires"),
        ([(" he", 3.0), ("He", 2.0), (" x", 0.1), (" x", 0.1)], "he"),
        ([(" a", 1.0), (" a", 1.0), (" b", 2.0), (" b", 2.0)], "b · a"),
        ([(f" {c}", 1.0) for c in "abcdefghijklmnopqrst"], "mixed: a · b"),
        ([("\n", 2.0)], "⏎"),
        ([("\u200bHe", 2.0)], "⟨U+200B⟩he"),
        ([("\\xe2\\x80", 9.0), (" he", 1.0)], "\\xe2\\x80"),
    ],
)
def test_labels_are_the_words_with_the_energy(firings: list[tuple[str, float]], label: str) -> None:
    assert label_of(top_tokens(firings)) == label
    assert label_of(top_tokens(firings[::-1])) == label


@pytest.mark.parametrize(("text", "shown"), UNSEEN)
def test_invisible_characters_are_escaped_once(text: str, shown: str) -> None:
    assert escape_invisible(text) == shown
    assert escape_invisible(shown) == shown
