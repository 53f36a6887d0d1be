"""Words that tell the two poles of an axis apart."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import CountVectorizer

from sae_lens_abstopk.evaluation.tasks.text_scorers import UNSPACED, marks, plain

Z = 1.96
STRONGEST = 1000
"""Pairs of largest |code| that are read for an axis, so that a million pairs cost no more than the strongest."""
FEWEST_TEXTS = 5
_ASCII_WORD = re.compile("[a-z][a-z0-9]*(?:['-][a-z0-9]+)*")
_LETTER, _LATER = rf"[^\W\d_{UNSPACED}]", rf"[^\W_{UNSPACED}]"
_WORD = re.compile(rf"{_LETTER}{_LATER}*(?:['-]{_LATER}+|[{marks()}]+{_LATER}*)*|[{UNSPACED}]")


class PoleWord(NamedTuple):
    """A word that the texts of one pole have and those of the other lack."""

    word: str
    z: float
    """Log-odds ratio by its standard error; above ``Z``."""
    pairs: int
    """Pairs in which only the text of this pole has the word."""
    opposite_pairs: int
    """Pairs in which only the text of the other pole has it."""


class AxisWords(NamedTuple):
    """Words of the two poles of an axis, by descending z."""

    positive: list[PoleWord]
    """Words of the texts with more of the axis than the other text of their pair."""
    negative: list[PoleWord]
    """Words of those with less."""


def words_of(text: str) -> list[str]:
    """Return the words of ``text`` in lower case; in scripts without spaces, its characters."""
    found = plain(text)
    return (_ASCII_WORD if found.isascii() else _WORD).findall(found)


def pole_words(
    codes: Float[np.ndarray, "n F"],
    a: Sequence[str],
    b: Sequence[str],
    *,
    components: Int[np.ndarray, " n"],
    most: int = 20,
) -> list[AxisWords]:
    """
    Return at most ``most`` words of each pole of each axis, from codes of A minus B.

    Log-odds with an informative Dirichlet prior (Monroe, Colaresi and Quinn 2008, equations 15 to 22): for a word with
    counts y+ and y- in corpora of n+ and n- words, and a prior count p,
    delta = log (y+ + p) / (n+ + P - y+ - p) - log (y- + p) / (n- + P - y- - p), and
    z = delta / sqrt(1 / (y+ + p) + 1 / (y- + p)).
    The prior has the words of all pairs in proportion, and is as large as a corpus: P = (n+ + n-) / 2.

    A pair counts a word once, and only if one of its two texts lacks it; the pairs of a component count together as
    one. Otherwise words that one text repeats, and words of one prompt with many pairs, would come first.
    """
    strongest = [_strongest(code) for code in codes.T]
    read = np.unique(np.concatenate(strongest))
    vocabulary, differences = _word_differences(a, b, read.tolist())
    share = abs(differences).sum(0) / max(abs(differences).sum(), 1)
    found = []
    for code, rows in zip(codes.T, strongest, strict=True):
        sides, of_rows = np.sign(code[rows]), differences[np.searchsorted(read, rows)]
        _, of_row, counts = np.unique(components[rows], return_inverse=True, return_counts=True)
        z = log_odds_z(*_counts_by_side(of_rows, sides / counts[of_row]), share)
        more, less = _counts_by_side(of_rows, sides)
        positive, negative = (
            [
                PoleWord(vocabulary[word], float(pole_z[word]), int(own[word]), int(opposite[word]))
                for word in np.argsort(-np.nan_to_num(pole_z), kind="stable")[:most].tolist()
                if pole_z[word] > Z
            ]
            for pole_z, own, opposite in ((z, more, less), (-z, less, more))
        )
        found.append(AxisWords(positive, negative))
    return found


def log_odds_z(
    first: Float[np.ndarray, " V"], second: Float[np.ndarray, " V"], share: Float[np.ndarray, " V"]
) -> Float[np.ndarray, " V"]:
    """Return the z of each word from its counts in two corpora and its share of the prior; NaN where undefined."""
    size = (first.sum() + second.sum()) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        log_odds, variance = np.zeros(len(share)), np.zeros(len(share))
        for sign, counts in ((1, first), (-1, second)):
            seen = counts + size * share
            log_odds += sign * np.log(seen / (counts.sum() + size - seen))
            variance += 1 / seen
        return log_odds / np.sqrt(variance)


def _strongest(code: Float[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    rows = np.sort(np.argsort(-np.abs(code), kind="stable")[:STRONGEST])
    return rows[code[rows] != 0]


def _word_differences(a: Sequence[str], b: Sequence[str], rows: list[int]) -> tuple[list[str], csr_array]:
    """Return words of at least ``FEWEST_TEXTS`` texts, and 1 (only A has the word), -1 (only B) or 0, [rows, words]."""
    numbers = {text: number for number, text in enumerate(dict.fromkeys(side[row] for side in (a, b) for row in rows))}
    analyzer: Any = words_of  # the type of the parameter is given as that of its default
    counter = CountVectorizer(analyzer=analyzer, binary=True)
    try:
        counts = csr_array(counter.fit_transform(numbers), dtype=np.float64)
    except ValueError:  # no text has a word
        return [], csr_array((len(rows), 0))
    common = np.flatnonzero(counts.sum(0) >= FEWEST_TEXTS)
    counts = counts[:, common]
    of_a, of_b = (counts[[numbers[side[row]] for row in rows]] for side in (a, b))
    return counter.get_feature_names_out()[common].tolist(), csr_array(of_a - of_b)


def _counts_by_side(differences: csr_array, weight: Float[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
    """
    Return how often only the text with more of the axis has each word, and only the text with less, [words] each.

    ``weight`` of each pair has the sign of its code.
    """
    total, signed = abs(differences).T @ np.abs(weight), differences.T @ weight
    return (total + signed) / 2, (total - signed) / 2
