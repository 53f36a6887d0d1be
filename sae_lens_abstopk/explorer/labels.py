"""A label for a pole from the tokens that it fires on: the same every time, and no model asked."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

WORDS = 3
# with less than this share of the strength on its words, a label would pretend to more than there is
COVERS = 0.25
NEVER, MIXED = "never fires", "mixed: "


class TopToken(NamedTuple):
    """A token that a pole fires on."""

    text: str
    share: float
    """Its share of the sum of |code| over the pole's sampled firings."""


def top_tokens(firings: Iterable[tuple[str, float]], n: int | None = None) -> list[TopToken]:
    """The tokens of ``firings`` (text, code) by their share of the strength; ties go by the text."""
    strength: defaultdict[str, float] = defaultdict(float)
    for text, code in firings:
        strength[text] += abs(code)
    total = sum(strength.values())
    ranked = sorted(strength.items(), key=lambda item: (-item[1], item[0]))
    return [TopToken(text, value / total) for text, value in ranked[:n]]


def label_of(tokens: Sequence[TopToken]) -> str:
    """
    Up to three words, joined by a dot: tokens that differ in case or in the space before them are one word.

    Marked as mixed where the words hold under a quarter of the pole's strength.
    """
    if not tokens:
        return NEVER
    share: defaultdict[str, float] = defaultdict(float)
    for token in tokens:
        share[visible(token.text).casefold()] += token.share
    words = sorted(share, key=lambda word: (-share[word], word))[:WORDS]
    covered = sum(share[word] for word in words)
    return ("" if covered >= COVERS else MIXED) + " · ".join(words)


def visible(text: str) -> str:
    """A token's text without outer spaces, and with signs in place of what cannot be seen."""
    shown = text.replace("\n", "⏎").replace("\r", "␍").replace("\t", "⇥").strip()
    return shown or "␣"
