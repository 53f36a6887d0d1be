"""Label a pole by the tokens it fires on, without a model."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sae_lens_abstopk.system.pages import escape_invisible

WORDS = 3
# least share of a pole's energy for a word
LEAST_SHARE = 0.08
NEVER, CLOSED, MIXED = "never fires", "closed", "mixed"
# a token that is part of a character
BYTE = re.compile(r"\\x[0-9a-f]{2}")


class TopToken(NamedTuple):
    """A token that a pole fires on."""

    text: str
    share: float
    """Its share of the sum of code^2 over the pole's sampled firings."""
    firings: int


def word_of(text: str) -> str:
    """Return a token's text as a word of a label."""
    return escape_invisible(text.casefold()).strip() or "␣"


def is_word(text: str) -> bool:
    """Return whether a token's text has two letters, or one beyond ASCII, and no byte of a broken character."""
    letters = "".join(sign for sign in text if sign.isalpha())
    return BYTE.search(text) is None and (len(letters) > 1 or not letters.isascii())


def top_tokens(firings: Iterable[tuple[str, float]]) -> list[TopToken]:
    """Rank the tokens of ``firings`` (text, code) by their share of the energy; ties in alphabetical order."""
    energy, count = energies(firings)
    total = sum(energy.values())
    ranked = sorted(energy.items(), key=lambda item: (-item[1], item[0]))
    return [TopToken(text, value / total, count[text]) for text, value in ranked]


def energies(firings: Iterable[tuple[str, float]]) -> tuple[dict[str, float], Counter[str]]:
    """Return the sum of code^2, and the number of firings, of each text."""
    energy: defaultdict[str, float] = defaultdict(float)
    count: Counter[str] = Counter()
    for text, code in firings:
        energy[text] += code * code
        count[text] += 1
    return energy, count


def label_of(tokens: Sequence[TopToken]) -> str:
    """
    Return a label of up to three words, joined by a dot; case and outer spaces do not count.

    A word needs 8 % of the pole's energy and, if the pole fired more than three times in the sample, two firings. If no
    word qualifies, the label is "mixed" with the two strongest tokens.
    """
    if not tokens:
        return NEVER
    share: defaultdict[str, float] = defaultdict(float)
    count: Counter[str] = Counter()
    for token in tokens:
        word = word_of(token.text)
        share[word] += token.share
        count[word] += token.firings
    ranked = sorted(share, key=lambda word: (-share[word], word))
    least = 1 if count.total() <= WORDS else 2
    words = [word for word in ranked if share[word] >= LEAST_SHARE and count[word] >= least]
    return " · ".join(words[:WORDS]) if words else f"{MIXED}: {' · '.join(ranked[: WORDS - 1])}"
