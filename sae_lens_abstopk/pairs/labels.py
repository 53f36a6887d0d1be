"""Labels that say which text of a pair was preferred, and their mirror images."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sae_lens_abstopk.pairs.pair_set import PairColumns
from sae_lens_abstopk.system.errors import ConfigError

# values listed in an error
LISTED = 10
WORDS = {
    "a": "b",
    "1": "2",
    "first": "second",
    "true": "false",
    "model_a": "model_b",
    "response_a": "response_b",
    "output_1": "output_2",
}
"""Words, in lower case, that prefer the first text, with those that prefer the second."""
TIES = ("tie", "tie (bothbad)", "bothbad", "both_bad", "draw", "equal")
MISSING = ("", "nan", "null", "none")


class Scale(NamedTuple):
    """Numbers as labels; ``first`` prefers the first text, ``second`` the second."""

    first: float
    second: float
    fits: Callable[[float], bool]
    tie: float | None = None
    """A number beside the scale that means a tie."""

    def preference(self, number: float) -> float:
        """Return 1 where ``number`` is nearer to ``first``, -1 where it is nearer to ``second``, and 0 between them."""
        if number == self.tie:
            return 0.0
        return float(np.sign(abs(number - self.second) - abs(number - self.first)))

    def mirrored(self, number: float) -> float:
        """Return the number that prefers the other text as much."""
        return number if number == self.tie else self.first + self.second - number


SCALES = (
    # 1 prefers the first text, as in SHP and in What's In My Human Feedback?
    Scale(1, 0, lambda number: number in (0, 0.5, 1)),
    Scale(1, -1, lambda number: number in (-1, 0, 1)),
    # AlpacaEval's: 1 to 2, where numbers between are probabilities; 0 was a tie in its first version
    Scale(1, 2, lambda number: number == 0 or 1 <= number <= 2, tie=0),
)


@dataclass(frozen=True)
class Labels:
    """The labels of a column, understood."""

    scale: Scale | None
    """The scale of numbers; None if labels are words."""
    words: Mapping[str, tuple[float, str]]
    """Preference and mirror image of each word, in lower case."""

    def preference(self, value: Any) -> float:
        """Return 1 if the label prefers the first text, -1 for the second, 0 for a tie, NaN if it is missing."""
        if _is_missing(value):
            return math.nan
        return self.words[_word(value)][0] if self.scale is None else self.scale.preference(float(value))

    def preferences(self, values: Sequence[Any]) -> Float[np.ndarray, " n"]:
        """Return the preference of each label."""
        known = {value: self.preference(value) for value in set(values)}
        return np.array([known[value] for value in values], dtype=np.float64)

    def mirrored(self, value: Any) -> Any:
        """
        Return the label that prefers the other text, in the type and case of ``value``; ties and missing labels stay.

        Twice mirrored, a label is what it was: on a scale from 1 to 2 the difference from 3 is exact.
        """
        if _is_missing(value) or self.preference(value) == 0:
            return value
        if self.scale is None:
            other = self.words[_word(value)][1]
            if isinstance(value, str):
                return _in_case_of(value, other)
            return not value if isinstance(value, bool) else type(value)(other)
        number = self.scale.mirrored(float(value))
        if isinstance(value, str):
            return str(int(number)) if value.strip().lstrip("+-").isdigit() else str(number)
        return type(value)(number)


def understand(values: Sequence[Any], columns: PairColumns, where: str) -> Labels:
    """
    Return how the labels in a column are to be read, from all of its values.

    Numbers are 0 and 1 (1 prefers the first text, .5 is a tie), -1, 0 and 1 (1 prefers the first text, 0 is a tie), or
    1 to 2 (1 prefers the first text; those between are probabilities, of which 1.5 is a tie, as is 0). Words are those
    of ``WORDS`` and ``TIES``, and the names of the columns of the texts, in any case. None, NaN and empty texts are
    missing labels.

    Raises:
        ConfigError: a value is none of these, or the values are of different kinds.
    """
    distinct = {value if isinstance(value, str | int | float) else repr(value) for value in values if value is not None}
    distinct = {value for value in distinct if not _is_missing(value)}
    numbers = [_number(value) for value in distinct]
    scale = next((each for each in SCALES if all(n is not None and each.fits(n) for n in numbers)), None)
    if scale is not None:
        return Labels(scale, {})
    words = {tie: (0.0, tie) for tie in TIES}
    for first, second in (*WORDS.items(), (columns.a, columns.b)):
        words |= {first.lower(): (1.0, second), second.lower(): (-1.0, first)}
    if all(_word(value) in words for value in distinct):
        return Labels(None, words)
    listed = ", ".join(sorted(map(repr, distinct))[:LISTED]) + (", ..." if len(distinct) > LISTED else "")
    raise ConfigError(
        f"{where}: the column {columns.label!r} holds {listed}, which together are no labels; known are A and B, "
        f"model_a and model_b, first and second, true and false, {columns.a} and {columns.b} (ties: tie), 0 and 1, "
        "-1 to 1, or 1 to 2; convert them, or name only the texts with columns."
    )


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _word(value: Any) -> str:
    return str(value).strip().lower()


def _is_missing(value: Any) -> bool:
    return value is None or value != value or (isinstance(value, str) and value.strip().lower() in MISSING)


def _in_case_of(value: str, other: str) -> str:
    """Write ``other`` with capitals where ``value`` has them, unless it has its own."""
    if other != other.lower():
        return other
    case = value.strip().ljust(len(other), value.strip()[-1])
    return "".join(new.upper() if old.isupper() else new for old, new in zip(case, other, strict=False))
