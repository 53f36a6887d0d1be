"""Surface features of texts, such as their length, and how they go along with axes."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, cached_property

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from sae_lens_abstopk.evaluation.steering.behaviour import REFUSAL_SUBSTRINGS
from sae_lens_abstopk.evaluation.tasks.text_scorers import plain
from sae_lens_abstopk.pairs.words import words_of

NAMED = 0.5
"""Axes whose correlation with a feature is at least this, on either side, are described by it."""
FEWEST_PAIRS = 20
"""No correlation is measured on fewer pairs."""
_FIRST_PERSON = frozenset(["i", "me", "my", "mine", "myself", "i'm", "i've", "i'd", "i'll"])
_PRAISE = """
    amazing awesome beautiful best better brilliant charming delicious delightful easy enjoy enjoyable enjoyed
    excellent excited exciting fantastic favorite favourite friendly fun glad good gorgeous grateful great happily happy
    helpful hope ideal impressive inspiring joy kind love loved lovely lucky nice perfect perfectly pleasant pleased
    pleasure positive proud rewarding safe success successful superb thank thanks thrilled vibrant warm welcome win
    wonderful"""
_BLAME = """
    afraid angry annoying anxious awful bad blame boring broken cruel danger dangerous dead depressed difficult
    disappointed disappointing disgusting evil fail failed failure fear frustrated frustrating guilty harm harmful hate
    hated horrible hurt illegal inappropriate kill lonely lose loss mess mistake negative offensive pain painful poor
    problem problems regret risk sad scared sick sorry stupid suffer terrible threat ugly unfortunately unhappy upset
    useless violence war worse worst wrong"""
_SENTIMENT = {word: sign for words, sign in ((_PRAISE, 1), (_BLAME, -1)) for word in words.split()}
_REFUSALS = tuple(map(plain, REFUSAL_SUBSTRINGS))
_ITEM = re.compile(r"\s*(?:[-*+•‣◦]|\d{1,3}[.)]|[a-zA-Z][.)])\s")
_HEADING = re.compile(r"\s{0,3}#{1,6}\s|\s*\*\*[^*]+\*\*:?\s*$")
_FENCE = re.compile(r"\s{0,3}(?:```|~~~)")
_LINK = re.compile(r"https?://|www\.")


class _Text:
    """A text, and counts that several features share."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.words = words_of(text)
        self.lines = [line for line in text.splitlines() if line.strip()]
        self._characters = Counter(text)

    @cached_property
    def letters(self) -> int:
        return self.characters(str.isalpha)

    def characters(self, kind: Callable[[str], bool]) -> int:
        return sum(count for character, count in self._characters.items() if kind(character))

    def per_word(self, count: int) -> float:
        return count / (1 + len(self.words))

    def line_share(self, pattern: re.Pattern[str]) -> float:
        return sum(pattern.match(line) is not None for line in self.lines) / max(len(self.lines), 1)

    def code_share(self) -> float:
        fenced, count = False, 0
        for line in self.lines:
            fence = _FENCE.match(line) is not None
            fenced ^= fence
            count += fenced or fence or (line.startswith(("    ", "\t")) and not _ITEM.match(line))
        return count / max(len(self.lines), 1)


FEATURES: dict[str, Callable[[_Text], float]] = {
    "length": lambda t: math.log1p(len(t.words)),
    "list items": lambda t: t.line_share(_ITEM),
    "headings": lambda t: t.line_share(_HEADING),
    "code": lambda t: t.code_share(),
    "bold": lambda t: t.per_word(t.text.count("**") // 2),
    "links": lambda t: t.per_word(len(_LINK.findall(t.text))),
    "questions": lambda t: t.per_word(t.characters("?？؟".__contains__)),
    "exclamations": lambda t: t.per_word(t.characters("!！".__contains__)),
    "first person": lambda t: t.per_word(sum(word in _FIRST_PERSON for word in t.words)),
    "refusal": lambda t: float(any(map(plain(t.text).__contains__, _REFUSALS))),
    "sentiment": lambda t: t.per_word(sum(_SENTIMENT.get(word, 0) for word in t.words)),
    "digits": lambda t: t.characters(str.isdigit) / max(len(t.text), 1),
    "capitals": lambda t: t.characters(str.isupper) / max(t.letters, 1),
    "other scripts": lambda t: (t.letters - t.characters(_is_latin)) / max(t.letters, 1),
}
"""Features by name: log (1 + words), shares of lines, of words, of characters or letters, and 0 or 1 for a refusal."""


def surface_features(texts: Sequence[str]) -> Float[np.ndarray, "n features"]:
    """Return ``FEATURES`` of each text; equal texts are read once."""
    rows = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    read = [[feature(text) for feature in FEATURES.values()] for text in map(_Text, rows)]
    return np.array(read).reshape(-1, len(FEATURES))[[rows[text] for text in texts]]


def surface_correlations(
    codes: Float[np.ndarray, "n F"], differences: Float[np.ndarray, "n features"]
) -> Float[np.ndarray, "F features"]:
    """
    Correlate codes with differences of features, both of A minus B, on the pairs on which an axis is active.

    NaN on fewer than ``FEWEST_PAIRS`` pairs, or without differences.

    This is Spearman's correlation with each pair counted in both orders, so it does not depend on which text is A. With
    signed ranks r(x) = sign(x) (rank of |x| - 1/2), it is sum r(z) r(d) / sqrt(sum r(z)^2 sum r(d)^2). Pairs with z = 0
    are left out: with them, an axis that is active on a tenth of the pairs could not reach a third.
    """
    found = np.full((codes.shape[1], differences.shape[1]), np.nan)
    for axis, code in enumerate(codes.T):
        rows = np.flatnonzero(code)
        if len(rows) >= FEWEST_PAIRS:
            of_code, of_features = _signed_ranks(code[rows]), _signed_ranks(differences[rows])
            scale = np.sqrt((of_code**2).sum() * (of_features**2).sum(0))
            found[axis] = np.divide(of_code @ of_features, scale, out=found[axis], where=scale > 0)
    return found


def main_feature(correlations: Float[np.ndarray, " features"]) -> str | None:
    """Return the feature that describes an axis: that of the largest correlation, if it reaches ``NAMED``."""
    strength = np.nan_to_num(np.abs(correlations))
    return list(FEATURES)[strength.argmax()] if strength.max() >= NAMED else None


def _signed_ranks(values: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n ..."]:
    return np.sign(values) * (rankdata(np.abs(values), axis=0) - 0.5)


@cache
def _is_latin(character: str) -> bool:
    return character.isalpha() and unicodedata.name(character, "").startswith(("LATIN", "FULLWIDTH LATIN"))
