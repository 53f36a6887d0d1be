"""Labels from tokens."""

import pytest

from sae_lens_abstopk.explorer.labels import label_of, top_tokens


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
