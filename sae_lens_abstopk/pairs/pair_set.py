"""Pairs of texts, with the prompt that both answer and which of the two was preferred."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from typing_extensions import override

from sae_lens_abstopk.system.shown import Facts, Shown

Turn = tuple[str, str]
"""Role and content of a turn of a conversation."""


@dataclass(frozen=True)
class PairColumns:
    """The columns of a data set that hold pairs, and how to read them."""

    a: str
    b: str
    label: str | None = None
    """Column of the preference; with chosen and rejected texts there is none, since A was chosen."""
    prompt: str | None = None
    group: str | None = None
    """Column of annotators or kinds of pairs, whose preferences are compared."""
    chosen_first: bool = False
    """Whether the text in ``a`` was always preferred to that in ``b``."""


@dataclass(frozen=True)
class PairCounts:
    """Numbers of rows with something to know about."""

    read: int
    """Rows of the data set."""
    equal: int = 0
    """Left out: both texts are equal."""
    empty: int = 0
    """Left out: a text is empty."""
    repeated: int = 0
    """Kept: the prompt and both texts occur in an earlier row, in either order."""
    ties: int = 0
    """Kept: neither text was preferred."""
    unlabelled: int = 0
    """Kept: the label is missing, where other rows have one."""


@dataclass(frozen=True)
class RowNames(Sequence[str]):
    """Names of the n rows of an array whose texts are not known; they take no memory."""

    n: int
    side: str

    @override
    def __len__(self) -> int:
        return self.n

    @override
    def __getitem__(self, row: Any) -> Any:
        found = range(self.n)[row]
        return [self[each] for each in found] if isinstance(found, range) else f"row {found} of {self.side}"


@dataclass(frozen=True, repr=False)
class PairSet(Shown):
    """n pairs of texts A and B, in the order of their data set."""

    name: str
    """Name in errors and records."""
    a: Sequence[str]
    b: Sequence[str]
    prompts: list[tuple[Turn, ...]]
    """The turns before both texts; empty without a prompt."""
    preferred: Float[np.ndarray, " n"]
    """1 where A was preferred, -1 where B was, 0 for a tie, NaN without a label."""
    groups: list[str] | None
    """The group of each pair, such as its annotator."""
    rows: Int[np.ndarray, " n"]
    """Numbers of the rows in the data set."""
    swapped: Bool[np.ndarray, " n"]
    """Whether A is the second text of its row: of chosen and rejected texts, the seed draws which is A."""
    counts: PairCounts
    columns: PairColumns
    source: dict[str, str] = field(default_factory=dict)
    """The data set: ``dataset_path``, ``split``, ``dataset_name`` if given, and ``sha256`` of files."""

    def __len__(self) -> int:
        return len(self.a)

    @property
    def has_texts(self) -> bool:
        """Whether ``a`` and ``b`` are texts, and not names of rows."""
        return not isinstance(self.a, RowNames)

    @property
    def labelled(self) -> Bool[np.ndarray, " n"]:
        """Which pairs have a preference; ties have none."""
        return np.abs(self.preferred) == 1

    def prompt_numbers(self) -> Int[np.ndarray, " n"]:
        """Number the prompts; a pair without one has its own."""
        numbers: dict[Any, int] = {}
        return np.array([numbers.setdefault(prompt or row, len(numbers)) for row, prompt in enumerate(self.prompts)])

    def _facts(self) -> Facts:
        return [{"pairs": len(self), "with a preference": int(self.labelled.sum()), "data": self.name}]


def unlabelled_pairs(name: str, a: Sequence[str], b: Sequence[str], groups: list[str] | None = None) -> PairSet:
    """Return pairs of texts without prompts and preferences."""
    n = len(a)
    return PairSet(
        name=name,
        a=a,
        b=b,
        prompts=[()] * n,
        preferred=np.full(n, np.nan),
        groups=groups,
        rows=np.arange(n),
        swapped=np.zeros(n, dtype=bool),
        counts=PairCounts(read=n),
        columns=PairColumns("a", "b"),
    )


def pairs_of_rows(n: int) -> PairSet:
    """Return the pairs of the rows of two arrays, which have no texts: a pair is named by its row."""
    return unlabelled_pairs("two arrays", RowNames(n, "A"), RowNames(n, "B"))
