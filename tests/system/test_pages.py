"""Text on pages."""

import pytest

from sae_lens_abstopk.system.pages import escape_invisible

UNSEEN = [
    ("a\u200bb\u202e\x07\u2028", "a⟨U+200B⟩b⟨U+202E⟩⟨U+0007⟩⟨U+2028⟩"),
    (" \xa0x\n\t    y", " ⟨U+00A0⟩x⏎⇥␣×4y"),
    ("\u200dمی\u200cخواهم \u200c", "⟨U+200D⟩می\u200cخواهم ⟨U+200C⟩"),
    ("👩\u200d🚀", "👩\u200d🚀"),
]


@pytest.mark.parametrize(("text", "shown"), UNSEEN)
def test_invisible_characters_are_escaped_once(text: str, shown: str) -> None:
    assert escape_invisible(text) == shown
    assert escape_invisible(shown) == shown
