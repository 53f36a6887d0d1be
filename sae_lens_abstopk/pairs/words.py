"""Words and short phrases that tell the two poles of an axis apart."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize.elementwise import find_root
from scipy.sparse import csr_array
from scipy.stats import norm
from sklearn.feature_extraction.text import CountVectorizer

from sae_lens_abstopk.pairs.effects import false_discovery
from sae_lens_abstopk.text.words import FUNCTION_WORDS, words_of

FALSE_DISCOVERIES = 0.05
STRONGEST = 500
"""Pairs of largest |code| that are read for an axis, so that a million pairs cost no more than the strongest."""
FEWEST_TEXTS = 5
LONGEST = 3
"""Most words of a phrase."""
# texts of more lengths than these are sorted into as many groups of like length
LENGTHS = 20


class _Corpus(NamedTuple):
    """The texts of n pairs, and in which of them each of V phrases is."""

    words: list[str]
    differences: csr_array
    """[n, V]: 1 where only A has the word, -1 where only B has it, 0 elsewhere."""
    lengths: tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]
    """The group of like length of A and of B."""
    presence: Float[np.ndarray, "lengths V"]
    """The share of texts of each length that would have the word, if all used it at one rate."""


class PoleWord(NamedTuple):
    """A word or phrase that the texts of one pole have and those of the other lack."""

    word: str
    z: float
    """Log-odds ratio by its standard error."""


class AxisWords(NamedTuple):
    """Words and phrases of the two poles of an axis, by descending z."""

    positive: list[PoleWord]
    """Words of the texts with more of the axis than the other text of their pair."""
    negative: list[PoleWord]
    """Those of texts with less."""
    n_tested: int
    """Number of words and phrases that were tested."""


def phrases_of(text: str) -> set[str]:
    """Return the words of ``text`` and its phrases of at most ``LONGEST`` words that begin and end with content."""
    words = words_of(text)
    starts = [place for place, word in enumerate(words) if word not in FUNCTION_WORDS]
    content = set(starts)
    return {
        " ".join(words[start : end + 1])
        for start in starts
        for end in range(start, min(start + LONGEST, len(words)))
        if end in content
    }


def pole_words(
    codes: Float[np.ndarray, "n F"],
    a: Sequence[str],
    b: Sequence[str],
    *,
    prompts: Int[np.ndarray, " n"],
    most: int = 20,
) -> list[AxisWords]:
    """
    Return at most ``most`` words and phrases of each pole of each axis, from codes of A minus B.

    Function words are left out. Of the others, those count that pass Benjamini-Hochberg over the words of an axis.

    Log-odds with an informative Dirichlet prior (Monroe, Colaresi and Quinn 2008, equations 15 to 22): for a word with
    counts y+ and y- in corpora of n+ and n- words, and a prior count p,
    delta = log (y+ + p) / (n+ + P - y+ - p) - log (y- + p) / (n- + P - y- - p), and
    z = delta / sqrt(1 / (y+ + p) + 1 / (y- + p)).
    The prior has the words of all pairs in proportion, and is as large as a corpus: P = (n+ + n-) / 2.

    A pair counts a word once, and only if one of its two texts lacks it; the pairs of a prompt count together as
    one. Otherwise words that one text repeats, and words of one prompt with many pairs, would come first.

    What the lengths of the texts explain is left out: from delta is subtracted that of y+ + y- divided as if all texts
    used the word at one rate. Otherwise a pole of long texts would have the commonest words.
    """
    strongest = [_strongest(code) for code in codes.T]
    read = np.unique(np.concatenate(strongest))
    corpus = _corpus(a, b, read.tolist())
    share = abs(corpus.differences).sum(0) / max(abs(corpus.differences).sum(), 1)
    found = []
    for code, rows in zip(codes.T, strongest, strict=True):
        place = np.searchsorted(read, rows)
        _, of_row, counts = np.unique(prompts[rows], return_inverse=True, return_counts=True)
        weight = np.sign(code[rows]) / counts[of_row]
        z = log_odds_z(
            *_counts_by_side(corpus.differences[place], weight), share, _share_by_length(corpus, place, weight)
        )
        sure = false_discovery(2 * norm.sf(np.abs(z))) <= FALSE_DISCOVERIES
        positive, negative = (
            [
                PoleWord(corpus.words[word], float(pole_z[word]))
                for word in np.argsort(-np.nan_to_num(pole_z), kind="stable")[:most].tolist()
                if pole_z[word] > 0 and sure[word]
            ]
            for pole_z in (z, -z)
        )
        found.append(AxisWords(positive, negative, int(np.isfinite(z).sum())))
    return found


def log_odds_z(
    first: Float[np.ndarray, " V"],
    second: Float[np.ndarray, " V"],
    share: Float[np.ndarray, " V"],
    expected: Float[np.ndarray, " V"] | None = None,
) -> Float[np.ndarray, " V"]:
    """
    Return the z of each word from its counts in two corpora and its share of the prior; NaN where undefined.

    ``expected`` is the share of the counts of each word that would be in the first corpus if nothing told the two
    apart; a half by default.
    """
    total = first + second
    size, expected = total.sum() / 2, np.full(len(share), 0.5) if expected is None else expected
    with np.errstate(divide="ignore", invalid="ignore"):
        log_odds, variance = np.zeros(len(share)), np.zeros(len(share))
        for sign, counts, usual in ((1, first, total * expected), (-1, second, total * (1 - expected))):
            seen, unseen = ((each + size * share, each.sum() + size * (1 - share) - each) for each in (counts, usual))
            log_odds += sign * (np.log(seen[0] / seen[1]) - np.log(unseen[0] / unseen[1]))
            variance += 1 / seen[0]
        return log_odds / np.sqrt(variance)


def _strongest(code: Float[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    rows = np.sort(np.argsort(-np.abs(code), kind="stable")[:STRONGEST])
    return rows[code[rows] != 0]


def _corpus(a: Sequence[str], b: Sequence[str], rows: list[int]) -> _Corpus:
    """Count the phrases of at least ``FEWEST_TEXTS`` texts in the pairs ``rows``."""
    numbers = {text: number for number, text in enumerate(dict.fromkeys(side[row] for side in (a, b) for row in rows))}
    of_a, of_b = (np.array([numbers[side[row]] for row in rows], dtype=np.int64) for side in (a, b))
    analyzer: Any = phrases_of  # the type of the parameter is given as that of its default
    counter = CountVectorizer(analyzer=analyzer, binary=True)
    try:
        counts = csr_array(counter.fit_transform(numbers), dtype=np.float64)
    except ValueError:  # no text has a word of content
        return _Corpus([], csr_array((len(rows), 0)), (0 * of_a, 0 * of_b), np.zeros((1, 0)))
    length, lengths = _grouped(counts.sum(1))
    common = np.flatnonzero(counts.sum(0) >= FEWEST_TEXTS)
    counts = counts[:, common]
    presence = presence_at_one_rate(counts.sum(0), lengths, np.bincount(length))
    words = counter.get_feature_names_out()[common].tolist()
    return _Corpus(words, csr_array(counts[of_a] - counts[of_b]), (length[of_a], length[of_b]), presence)


def _grouped(values: Float[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " groups"]]:
    """Sort values into ``LENGTHS`` groups or fewer; return the group of each, and the mean of each group."""
    distinct = np.unique(values)
    edges = distinct if len(distinct) <= LENGTHS else np.unique(np.quantile(values, np.arange(1, LENGTHS) / LENGTHS))
    group = np.unique(np.searchsorted(edges, values, side="right"), return_inverse=True)[1]
    return group, np.bincount(group, weights=values) / np.bincount(group)


def presence_at_one_rate(
    texts: Float[np.ndarray, " V"], lengths: Float[np.ndarray, " groups"], sizes: Int[np.ndarray, " groups"]
) -> Float[np.ndarray, "groups V"]:
    """
    Return the probability 1 - exp(-r n) that a text of length n has each word, at the rate r that explains its count.

    ``texts`` is the number of texts that have each word, fewer than all; ``lengths`` and ``sizes`` are the length and
    the number of the texts of each group.
    """

    def presence(log_rate: Float[np.ndarray, " V"]) -> Float[np.ndarray, "groups V"]:
        return -np.expm1(-np.outer(lengths, np.exp(log_rate)))

    found = find_root(lambda log_rate, count: sizes @ presence(log_rate) - count, (-20.0, 5.0), args=(texts,))
    return presence(found.x)


def _share_by_length(
    corpus: _Corpus, place: Int[np.ndarray, " n"], weight: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " V"]:
    """Return, of the pairs in which one text has a word, the share where the text with more would have it by length."""
    sides = np.stack([each[place] for each in corpus.lengths])
    more, less = np.where(weight > 0, sides, sides[::-1])
    pairs = np.zeros((len(corpus.presence), len(corpus.presence)))
    np.add.at(pairs, (more, less), np.abs(weight))
    only_more, only_less = (
        ((each @ (1 - corpus.presence)) * corpus.presence).sum(0) for each in (pairs, pairs.T.copy())
    )
    both = only_more + only_less
    return np.divide(only_more, both, out=np.full(len(both), 0.5), where=both > 0)


def _counts_by_side(differences: csr_array, weight: Float[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
    """
    Return how often only the text with more of the axis has each word, and only the text with less, [words] each.

    ``weight`` of each pair has the sign of its code.
    """
    total, signed = abs(differences).T @ np.abs(weight), differences.T @ weight
    return (total + signed) / 2, (total - signed) / 2
