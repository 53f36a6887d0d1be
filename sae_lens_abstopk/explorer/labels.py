"""Label a pole by the tokens it fires on, or the words that its rows share, without a model."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sae_lens_abstopk.system.pages import escape_invisible
from sae_lens_abstopk.vectors.rows_as_texts import RowText

WORDS = 3
# least share of a pole's energy for a word
LEAST_SHARE = 0.08
NEVER, CLOSED, MIXED = "never fires", "closed", "mixed"
# a token that is part of a character
BYTE = re.compile(r"\\x[0-9a-f]{2}")
# rows in which words are counted, at even distances
COUNTED = 20_000
# standard deviations by which a word must be more common than in as many rows drawn at random
UNLIKELY = 3.0
WORD = re.compile(r"[^\W\d_](?:[\w'’-]*[^\W_])?")
# characters of a row's text that stand for a label
LONGEST = 48


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
    energy, count = _energies(firings)
    total = sum(energy.values())
    ranked = sorted(energy.items(), key=lambda item: (-item[1], item[0]))
    return [TopToken(text, value / total, count[text]) for text, value in ranked]


def _energies(firings: Iterable[tuple[str, float]]) -> tuple[dict[str, float], Counter[str]]:
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


class RowWords:
    """Words that are more common in the rows of a pole than in all rows."""

    def __init__(self, text_of: RowText) -> None:
        self._text_of = text_of
        rows = range(0, len(text_of), -(-len(text_of) // COUNTED))
        found = Counter(word for row in rows for word in self._words(row))
        self._usual = {word: min(count, len(rows) - 1) / len(rows) for word, count in found.items()}
        self._least = 1 / len(rows)

    def top(self, firings: Sequence[tuple[int, float]]) -> list[TopToken]:
        """
        Return the words that the rows of ``firings`` (row, code) share, ranked by share * -log(share of all rows).

        The share of a word is the sum of code^2 over the rows that have it, by that over all. It has to exceed the
        word's share of all rows by ``LEAST_SHARE``, and by ``UNLIKELY`` standard deviations; one row is not enough.
        """
        energy, count = _energies((word, code) for row, code in firings for word in self._words(row))
        total = sum(code * code for _, code in firings)
        found: list[tuple[float, TopToken]] = []
        for word, of_word in energy.items():
            share, usual = of_word / total, self._usual.get(word, self._least)
            deviation = math.sqrt(usual * (1 - usual) / len(firings))
            if count[word] > 1 and share - usual >= max(LEAST_SHARE, UNLIKELY * deviation):
                found.append((-share * -math.log(usual), TopToken(word, share, count[word])))
        return [token for _, token in sorted(found)]

    def beginning(self, row: int) -> str:
        """Return the first words of a row's text."""
        text = " ".join(self._text_of(row).split())
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 1].rstrip()}…"

    def _words(self, row: int) -> set[str]:
        return set(WORD.findall(self._text_of(row).casefold()))
