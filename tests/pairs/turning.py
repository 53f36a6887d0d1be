"""Pairs with A and B swapped."""

import numpy as np
from hypothesis import strategies as st

swaps = st.lists(st.booleans(), min_size=60, max_size=60).map(np.array)
"""Which of 60 pairs are swapped."""


def swapped_texts(a: list[str], b: list[str], swap: np.ndarray) -> tuple[list[str], list[str]]:
    pairs = [(y, x) if turn else (x, y) for x, y, turn in zip(a, b, swap, strict=True)]
    return [x for x, _ in pairs], [y for _, y in pairs]


def negated(values: np.ndarray, swap: np.ndarray) -> np.ndarray:
    """``values`` [n, ...] of A minus B after the swap."""
    return (values.T * np.where(swap, -1, 1)).T
