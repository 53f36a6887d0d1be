"""A text read once for all markers, and the ways in which markers count."""

import re
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

from sae_lens_abstopk.text.words import plain, words_of

Measure = Callable[["TextParts"], float]
_SENTENCE = re.compile(r"(?<=[.!?。！？])[\"'”’)*_]*\s+|\n+")
_BULLET = re.compile(r"^\s*(?:[-*+•‣◦>#]+|\d{1,3}[.)]|[a-zA-Z][.)])\s+|[*_`]+")
# a marker in three words of ten is no stronger than one in thirty of a hundred
SMOOTHING = 10


class Marker(NamedTuple):
    """A feature of a text that a person can see."""

    more: str
    """A text with more of it, in words such as "lists" or "hedges"."""
    less: str
    """A text with less."""
    measure: Measure
    """A density, a share, or 0 or 1."""


class TextParts:
    """A text, and parts of it that several markers share."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.plain = plain(text)
        self.words = words_of(text)
        self.joined = f" {' '.join(self.words)} "
        """The words between single spaces, in which phrases are counted."""
        self.lines = [line for line in text.splitlines() if line.strip()]

    @cached_property
    def counts(self) -> Counter[str]:
        """How often it has each word."""
        return Counter(self.words)

    @cached_property
    def characters(self) -> Counter[str]:
        """How often it has each character."""
        return Counter(self.text)

    @cached_property
    def letters(self) -> int:
        """Number of letters."""
        return self.character_count(str.isalpha)

    @cached_property
    def paragraphs(self) -> int:
        """Number of blocks between empty lines."""
        return sum(bool(block.strip()) for block in re.split(r"\n\s*\n", self.text))

    @cached_property
    def sentences(self) -> list[str]:
        """Sentences and lines, without bullets."""
        return [found for part in _SENTENCE.split(self.text) if (found := _BULLET.sub("", part).strip())]

    @cached_property
    def firsts(self) -> list[str]:
        """The first word of each sentence, in lower case."""
        return [word.strip(",.:;!?\"'“”()").casefold() for each in self.sentences for word in each.split(None, 1)[:1]]

    def character_count(self, kind: Callable[[str], bool]) -> int:
        """Return the number of characters of a kind."""
        return sum(count for character, count in self.characters.items() if kind(character))

    def word_count(self, kind: Callable[[str], bool]) -> int:
        """Return the number of words of a kind."""
        return sum(count for word, count in self.counts.items() if kind(word))

    def per_word(self, count: float) -> float:
        """Return the count for each word, smoothed."""
        return count / (SMOOTHING + len(self.words))

    def line_share(self, pattern: re.Pattern[str]) -> float:
        """Return the share of its lines that begin with the pattern."""
        return sum(pattern.match(line) is not None for line in self.lines) / max(len(self.lines), 1)


class Listed:
    """Words and phrases of a list with commas between them."""

    def __init__(self, listed: str) -> None:
        found = [" ".join(each.split()) for each in listed.split(",")]
        self.entries = frozenset(found)
        self.words = frozenset(each for each in found if " " not in each)
        # a phrase is looked for only where its longest word is, since that is quicker
        self.phrases = tuple((max(each.split(), key=len), f" {each} ") for each in found if " " in each)

    def count(self, parts: TextParts) -> int:
        """Return how often a text has any of them."""
        counts, joined = parts.counts, parts.joined
        found = sum([counts[word] for word in self.words & counts.keys()])
        return found + sum([joined.count(phrase) for longest, phrase in self.phrases if longest in counts])


def density(listed: str) -> Measure:
    """Count the words and phrases of a list, for each word of the text."""
    of = Listed(listed)
    return lambda parts: parts.per_word(of.count(parts))


def presence(listed: str) -> Measure:
    """Return 1 if a text has a word or phrase of a list, else 0."""
    of = Listed(listed)
    return lambda parts: float(of.count(parts) > 0)


def found_in(pattern: str) -> Measure:
    """Count a pattern in the text, for each word."""
    compiled = re.compile(pattern)
    return lambda parts: parts.per_word(len(compiled.findall(parts.text)))


def first_words(listed: str) -> Measure:
    """Return the share of sentences and lines that begin with a word of a list."""
    words = frozenset(listed.replace(",", " ").split())
    return lambda parts: sum(first in words for first in parts.firsts) / (2 + len(parts.firsts))


def opens_with(listed: str) -> Measure:
    """Return 1 if the first words are one of the list's, else 0."""
    openings = tuple(f" {' '.join(each.split())} " for each in listed.split(","))
    return lambda parts: float(parts.joined.startswith(openings))


def word_share(kind: Callable[[str], bool]) -> Measure:
    """Return the share of words of a kind."""
    return lambda parts: parts.per_word(parts.word_count(kind))
