"""A task: a concept with two poles, texts of both, their split, and the judgement of steering."""

import hashlib
import itertools
import json
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from sae_lens_abstopk.system.errors import ConfigError, require_distinct

SPLITS = ("train", "val", "test")
# 60/20/20 by group: three folds train, one validates, one tests
FOLDS = 5


@dataclass(frozen=True)
class Example:
    text: str
    pole: int
    """0 for pole A, 1 for pole B."""
    group: str
    """Template or document of the text; a group lies within one split."""
    marker: tuple[int, int] | None = None
    """Characters [start, end) of the marked word, for ``"marked"`` in :attr:`Task.reads`."""
    split: str | None = None
    """``"train"``, ``"val"`` or ``"test"``, if the source has splits."""


@dataclass(frozen=True)
class Scorer:
    """See :func:`~.text_scorers.pole_score`."""

    kind: Literal["words", "prefixes"]
    patterns: tuple[tuple[str, ...], tuple[str, ...]]
    """Patterns of A and of B; ``"prefixes"`` has only A's."""


@dataclass(frozen=True)
class TaskSteering:
    prompts: tuple[str, ...]
    """Neutral between the poles."""
    tokens: tuple[tuple[str, ...], tuple[str, ...]]
    """Continuations for A and for B; each is scored by its first token."""
    scorer: Scorer | None
    chat: bool
    """Whether prompts are user turns for the model's chat template."""


class TaskSplit(NamedTuple):
    """Indices into :attr:`Task.examples`, int64, ascending; without common examples or groups."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Task:
    """A concept with two poles, as data; raises if a text occurs twice or its groups cannot be split."""

    name: str
    poles: tuple[str, str]
    examples: tuple[Example, ...] = field(repr=False)
    reads: tuple[str, ...] = ("last", "mean")
    """Read positions of a text: ``"last"`` token, ``"mean"`` over tokens, ``"marked"`` word."""
    steering: TaskSteering | None = None
    licence: str = ""
    source: str = ""
    about: str = ""

    def __post_init__(self) -> None:
        require_distinct("the text", self.texts, remedy="take one out, or make the two differ")
        split_of: dict[str, str] = {}
        for group, name in zip(self.groups, self._splits, strict=True):
            if split_of.setdefault(group, name) != name:
                raise ConfigError(
                    f"the group {group!r} is in both {split_of[group]} and {name}; leave out the splits, or use others."
                )
        names = set(self._splits) or {"train"}
        if len(names) > 1:
            names.add("train")
        groups = {(e.pole, name, e.group) for e, name in zip(self.examples, self._splits, strict=True)}
        count = Counter((pole, name) for pole, name, _ in groups)
        for pole, name in itertools.product((0, 1), sorted(names)):
            is_cut = len(names) == 1 or (len(names) == 2 and name == "train")
            if count[pole, name] < (least := FOLDS if is_cut else 1):
                raise ConfigError(
                    f"pole {'AB'[pole]} has {count[pole, name]} groups of texts in {name}; a split by group needs at "
                    f"least {least}: add templates or documents."
                )

    @property
    def texts(self) -> list[str]:
        return [example.text for example in self.examples]

    @property
    def labels(self) -> np.ndarray:
        """0 (pole A) or 1 (pole B) of each text, int64."""
        return np.array([example.pole for example in self.examples], dtype=np.int64)

    @property
    def groups(self) -> list[str]:
        return [example.group for example in self.examples]

    @property
    def markers(self) -> list[tuple[int, int] | None]:
        return [example.marker for example in self.examples]

    @property
    def own_split(self) -> tuple[str, ...] | None:
        """The split of each example in the source, train where it has none; None if no example has one."""
        splits = [example.split for example in self.examples]
        return tuple(split or "train" for split in splits) if any(splits) else None

    @property
    def _splits(self) -> tuple[str, ...]:
        return self.own_split or ("train",) * len(self.examples)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the texts with their poles, groups, marked words and splits, as hex digits."""
        own = self.own_split or (None,) * len(self.examples)
        lines = (
            json.dumps([e.text, e.pole, e.group, e.marker, split], ensure_ascii=False) + "\n"
            for e, split in zip(self.examples, own, strict=True)
        )
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def split(self, seed: int = 0) -> TaskSplit:
        """
        Split into train, val and test: the source's splits, else 60/20/20 by group, balanced between the poles.

        If the source has only train and test, val is a fifth of the groups of train; if only train and val, val becomes
        test. The seed decides only the rest.
        """
        rows = np.arange(len(self.examples), dtype=np.int64)
        own = np.array(self._splits)
        named = {name: rows[own == name] for name in SPLITS if (own == name).any()}
        if len(named) == 3:
            return TaskSplit(**named)
        cut = named["train"] if len(named) == 2 else rows
        by_group = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
        folds = [cut[fold] for _, fold in by_group.split(cut, self.labels[cut], np.array(self.groups)[cut])]
        if len(named) == 2:
            test = named["test" if "test" in named else "val"]
            return TaskSplit(train=np.sort(np.concatenate(folds[1:])), val=folds[0], test=test)
        return TaskSplit(train=np.sort(np.concatenate(folds[2:])), val=folds[0], test=folds[1])
