"""Which words of two texts differ."""

import difflib
import itertools
import re

LEAST_SHARED = 0.5
"""Texts that share fewer of their words, in order, are not compared: nearly everything in them would differ."""
_PIECE = re.compile(r"\s+|\w+|[^\w\s]+")


def differing_words(a: str, b: str) -> tuple[list[str], list[str]]:
    """
    Split two texts into parts that both have and parts that differ, in turn; a shared part, which may be empty, begins.

    The parts of a text make up the text. Texts that share under half of their words come back in one part.
    """
    pieces = [_PIECE.findall(text) for text in (a, b)]
    words_a, words_b = ([piece for piece in side if not piece.isspace()] for side in pieces)
    matcher = difflib.SequenceMatcher(None, words_a, words_b)
    # the bounds above the ratio are cheap
    if min(matcher.real_quick_ratio(), matcher.quick_ratio()) < LEAST_SHARED or matcher.ratio() < LEAST_SHARED:
        return [a], [b]
    shared: tuple[set[int], set[int]] = set(), set()
    for *starts, size in matcher.get_matching_blocks():
        for start, words in zip(starts, shared, strict=True):
            words.update(range(start, start + size))
    return _parts(pieces[0], shared[0]), _parts(pieces[1], shared[1])


def _parts(pieces: list[str], shared: set[int]) -> list[str]:
    """Join the pieces of a text, whose words of numbers in ``shared`` are shared; spaces differ between other words."""
    words = itertools.count()
    differs = [not piece.isspace() and next(words) not in shared for piece in pieces]
    for i in range(1, len(pieces) - 1):
        differs[i] |= pieces[i].isspace() and differs[i - 1] and differs[i + 1]
    runs = itertools.groupby(zip(pieces, differs, strict=True), key=lambda each: each[1])
    parts = ["".join(piece for piece, _ in run) for _, run in runs]
    return ["", *parts] if differs[:1] == [True] else parts or [""]
