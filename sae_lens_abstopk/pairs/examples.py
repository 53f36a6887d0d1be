"""Choose the example pairs of an axis: one a prompt, from many groups, from the strongest code to the weakest."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

STRONGEST, SPREAD = 5, 5
"""Examples of a pole: of its strongest tenth, and spread over the weaker codes."""


def strongest_pairs(code: Float[np.ndarray, " n"], prompts: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """Return the pairs on which an axis is active, strongest first, and of each prompt only the strongest."""
    order = np.argsort(-np.abs(code), kind="stable")[: np.count_nonzero(code)]
    return order[np.sort(np.unique(prompts[order], return_index=True)[1])]


def example_pairs(
    code: Float[np.ndarray, " n"], prompts: Int[np.ndarray, " n"], groups: Sequence[str] | None
) -> tuple[list[int], list[int]]:
    """
    Return the examples of the positive and of the negative pole, each from the strongest to the weakest.

    A pole has at most ``STRONGEST`` pairs of its strongest tenth, and one from each of ``SPREAD`` equal parts of the
    others. Among pairs of like strength, those of groups that have the fewest examples so far come first.
    """
    rows = strongest_pairs(code, prompts)
    positive, negative = (_spread(rows[code[rows] * side > 0], groups) for side in (1, -1))
    return positive, negative


def _spread(rows: Int[np.ndarray, " m"], groups: Sequence[str] | None) -> list[int]:
    n_strong = max(STRONGEST, len(rows) // 10)
    # the weakest first, so that the last example is the weakest of all
    weaker = [part[::-1] for part in np.array_split(rows[n_strong:], SPREAD)]
    shown: Counter[str] = Counter()
    chosen: set[int] = set()
    for part, most in ((rows[:n_strong], STRONGEST), *((part, 1) for part in weaker)):
        left: list[int] = part.tolist()
        for _ in range(min(most, len(left))):
            row = min(left, key=lambda row: shown[groups[row]] if groups else 0)
            left.remove(row)
            chosen.add(row)
            if groups:
                shown[groups[row]] += 1
    return [row for row in rows.tolist() if row in chosen]
