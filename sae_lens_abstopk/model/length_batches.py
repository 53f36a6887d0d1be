"""Batches of texts of similar length, so that little of a pass is padding."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
# texts that are shorter than this share of the longest go into another batch, unless the batch is small
LEAST_SHARE, SMALL = 0.85, 4


def length_batches(texts: Sequence[T], length: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """
    Yield texts in batches of at most ``most`` tokens, padding included, or of one text; longest first.

    A batch with fewer than a quarter (1 / ``SMALL``) of these tokens takes texts of any length.
    """
    left = sorted(texts, key=length)
    while left:
        longest, size = length(left[-1]), 1
        while size < len(left) and (size + 1) * longest <= most:
            if length(left[-size - 1]) < LEAST_SHARE * longest and SMALL * size * longest >= most:
                break
            size += 1
        yield left[-size:]
        del left[-size:]
