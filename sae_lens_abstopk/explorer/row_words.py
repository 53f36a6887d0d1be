"""Words that the rows of a pole share, for its label; a row is the text of one vector."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from sae_lens_abstopk.explorer.labels import LEAST_SHARE, TopToken
from sae_lens_abstopk.vectors.rows_as_texts import RowText

COUNTED = 20_000
"""Rows in which words are counted, at even distances."""
WORD = re.compile(r"[^\W\d_][\w'’-]*")
LABEL = 48
"""Characters of a row's text that stand for a label."""


class RowWords:
    """How common each word is in the texts of all rows, and by how much more common it is in those of a pole."""

    def __init__(self, text_of: RowText) -> None:
        self._text_of = text_of
        rows = range(0, len(text_of), -(-len(text_of) // COUNTED))
        found = Counter(word for row in rows for word in self._words(row))
        self._share = {word: count / len(rows) for word, count in found.items()}

    def top(self, firings: Iterable[tuple[int, float]]) -> list[TopToken]:
        """
        Return the words of ``firings`` (row, code), ranked by how far their share of the energy exceeds that of rows.

        A word's share of the energy is the sum of code^2 over the rows that have it, by that over all. Left out are
        words in a single row, and those with an excess under ``LEAST_SHARE`` or under their share of all rows.
        """
        energy: defaultdict[str, float] = defaultdict(float)
        count: Counter[str] = Counter()
        total = 0.0
        for row, code in firings:
            total += code * code
            for word in self._words(row):
                energy[word] += code * code
                count[word] += 1
        usual = {word: self._share.get(word, 0.0) for word in energy}
        excess = {word: of / total - usual[word] for word, of in energy.items()}
        words = sorted(excess, key=lambda word: (-excess[word], word))
        kept = [word for word in words if count[word] > 1 and excess[word] >= max(LEAST_SHARE, usual[word])]
        return [TopToken(word, energy[word] / total, count[word]) for word in kept]

    def beginning(self, row: int) -> str:
        """Return the first words of a row's text."""
        text = " ".join(self._text_of(row).split())
        return text if len(text) <= LABEL else f"{text[: LABEL - 1].rstrip()}…"

    def _words(self, row: int) -> set[str]:
        return set(WORD.findall(self._text_of(row).casefold()))
