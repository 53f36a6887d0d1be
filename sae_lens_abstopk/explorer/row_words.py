"""Words that the rows of a pole share, for its label; a row is the text of one vector."""

import math
import re
from collections import Counter
from collections.abc import Sequence

from sae_lens_abstopk.explorer.labels import LEAST_SHARE, TopToken, energies
from sae_lens_abstopk.vectors.rows_as_texts import RowText

# rows in which words are counted, at even distances
COUNTED = 20_000
# standard deviations by which a word must be more common than in as many rows drawn at random
UNLIKELY = 3.0
WORD = re.compile(r"[^\W\d_](?:[\w'’-]*[^\W_])?")
# characters of a row's text that stand for a label
LONGEST = 48


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
        energy, count = energies((word, code) for row, code in firings for word in self._words(row))
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
