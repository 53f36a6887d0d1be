"""Split pairs into training and held-out parts that share no prompt and no text."""

import numpy as np
from jaxtyping import Bool, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sae_lens_abstopk.pairs.pair_set import PairSet
from sae_lens_abstopk.system.errors import ConfigError, require_range

# a component larger than this share of the held-out part is held out only if smaller ones do not fill it
LARGEST_SHARE = 0.1
# fewer held-out pairs measure nothing
FEWEST_HELD_OUT = 5


def components(pairs: PairSet) -> Int[np.ndarray, " n"]:
    """
    Number the connected components of pairs that share a prompt or a text; return the number of each pair.

    Pairs without a prompt share none, and rows of arrays share nothing. One text that answers many prompts, such as a
    refusal, joins all of them.
    """
    if not pairs.has_texts:
        return np.arange(len(pairs))
    numbers: dict[object, int] = {}
    joins = (
        numbers.setdefault(each, len(numbers))
        for prompt, a, b in zip(pairs.prompts, pairs.a, pairs.b, strict=True)
        for each in (prompt or a, a, b)
    )
    join = np.fromiter(joins, dtype=np.int64, count=3 * len(pairs))
    pair = np.arange(len(pairs)).repeat(3)
    n = len(pairs) + len(numbers)
    graph = coo_array((np.ones(len(pair), dtype=bool), (pair, len(pairs) + join)), shape=(n, n))
    _, found = connected_components(graph, directed=False)
    return np.unique(found[: len(pairs)], return_inverse=True)[1]


def held_out_rows(components: Int[np.ndarray, " n"], *, share: float = 0.2, seed: int = 0) -> Bool[np.ndarray, " n"]:
    """
    Draw whole components for the held-out part until it has a ``share`` of the pairs; return which pairs are in it.

    Large components go to training first: those with more than a tenth of the held-out part are drawn only if all
    others together do not fill it, the smaller ones first. So one giant component is never held out.

    Raises:
        ConfigError: there is one component only, or fewer than 5 pairs would be held out.
    """
    require_range("share", share, above=0, at_most=0.5)
    sizes = np.bincount(components)
    target = share * len(components)
    large = np.where(sizes > LARGEST_SHARE * target, sizes, 0)
    order = np.lexsort((np.random.default_rng(seed).permutation(len(sizes)), large))
    # of components in this order, each is taken that still fits
    drawn, total = np.zeros(len(sizes), dtype=bool), 0
    for number in order:
        if total + sizes[number] <= target:
            drawn[number] = True
            total += sizes[number]
    if total < FEWEST_HELD_OUT:
        raise ConfigError(
            f"{total} of {len(components):,} pairs would be held out, fewer than {FEWEST_HELD_OUT}: they are "
            f"{len(sizes):,} groups of shared prompts or texts, the largest with {sizes.max(initial=0):,}; add pairs "
            "of other prompts, or raise the share (held_out)."
        )
    return drawn[components]
