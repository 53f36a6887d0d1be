"""Verdicts on latents: which have two poles that mean something, by a judge, a concept or the words of their poles."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from sae_lens_abstopk.explorer.collection import Collector
from sae_lens_abstopk.explorer.labels import WORDS, is_word, word_of

BOTH, ONE, UNCLEAR, SILENT = "both clear", "one clear", "unclear", "never fires"
COVERS = "covers "
"""Begins the verdict on a latent that covers a concept better than the controls of an evaluation."""
ORDER = ("opposites", COVERS, "related", BOTH, ONE, "unrelated", "one-sided", UNCLEAR, SILENT)
"""Verdicts in the order of the first list."""
LEAST_FIRINGS = 8
"""Sampled firings below which the words of a pole say nothing."""
DRAWS, QUANTILE = 500, 0.99


class WordControl:
    """
    The coverage of poles that fire on tokens at random, as often as a given pole does.

    Coverage is the share of a pole's sampled firings on its ``WORDS`` commonest words; punctuation, digits, single
    letters and bytes do not count (:func:`is_word`). ``usual`` are counts or weights of all tokens' words. The control
    is the ``QUANTILE`` of the coverage over ``DRAWS`` samples of as many words.
    """

    def __init__(self, usual: Mapping[str, float]) -> None:
        ranked = sorted(usual, key=is_word, reverse=True)
        self._n_words = sum(map(is_word, usual))
        weights = np.array([usual[word] for word in ranked], dtype=np.float64)
        self._shares = weights / weights.sum()
        self._found: dict[int, float] = {}

    def coverage(self, n: int) -> float:
        """Return the coverage that ``n`` random firings exceed once in a hundred times."""
        if n not in self._found:
            drawn = np.random.default_rng(n).choice(len(self._shares), size=(DRAWS, n), p=self._shares)
            words = (row[row < self._n_words] for row in drawn)
            tops = [sum(np.sort(np.unique(row, return_counts=True)[1])[-WORDS:]) / n for row in words]
            self._found[n] = float(np.quantile(tops, QUANTILE))
        return self._found[n]


def usual_words(collected: Collector, text_of: Callable[[int], str]) -> dict[str, float]:
    """Return how often words occur among all firings, from the sample of each pole, by its number of firings."""
    kept = collected.tokens
    there = kept.scores > -torch.inf
    weights = (collected.pole_counts.flatten() / there.sum(1).clamp(min=1))[:, None].expand_as(there)[there]
    counts = torch.bincount(kept.payload["token"][there].long(), weights.double())
    found: defaultdict[str, float] = defaultdict(float)
    for token in counts.nonzero()[:, 0].tolist():
        found[word_of(text_of(token))] += counts[token].item()
    return found


def own_coverage(firings: Sequence[Sequence[str]]) -> tuple[float, float]:
    """
    Return the coverage of both poles by their own words.

    A word is a pole's own if it passes :func:`is_word` and is more than twice as common as at the other pole.
    """
    counts = [Counter(word_of(text) for text in pole if is_word(text)) for pole in firings]
    sizes = [max(len(pole), 1) for pole in firings]
    found = []
    for pole in (0, 1):
        own = (
            n
            for word, n in counts[pole].most_common(WORDS)
            if n / sizes[pole] > 2 * counts[1 - pole][word] / sizes[1 - pole]
        )
        found.append(sum(own) / sizes[pole])
    return found[0], found[1]


def rank(verdict: str) -> int:
    """Return the place of a verdict in ``ORDER``."""
    return ORDER.index(COVERS if verdict.startswith(COVERS) else verdict)
