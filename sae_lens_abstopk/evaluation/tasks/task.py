"""Tasks: a concept with two poles, texts of both, how they are split, and what steering by the concept is judged on."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from sae_lens_abstopk.system.errors import ConfigError, did_you_mean
from sae_lens_abstopk.system.yaml_files import data_folder

SPLITS = ("train", "val", "test")
# 60/20/20 by group: three folds train, one validates, one tests
FOLDS = 5


@dataclass(frozen=True)
class Example:
    """A text of one pole."""

    text: str
    pole: int
    """0 for pole A, 1 for pole B."""
    group: str
    """The template or document that the text comes from; no split cuts a group."""
    marker: tuple[int, int] | None = None
    """Characters [start, end) of the marked word, for ``"marked"`` in :attr:`Task.reads`."""


@dataclass(frozen=True)
class Scorer:
    """Which pole a generated text shows, judged by its words."""

    kind: str
    """``"words"``: share of pole-A words against pole-B words, in [-1, 1]. ``"prefixes"``: -1 if the text starts with one, else 0."""
    patterns: tuple[tuple[str, ...], tuple[str, ...]]
    """For A and for B; with ``"prefixes"``, for A alone."""


@dataclass(frozen=True)
class TaskSteering:
    """What the effect of steering along the concept is measured on."""

    prompts: tuple[str, ...]
    """Neutral between the poles; split into val and test by prompt."""
    tokens: tuple[tuple[str, ...], tuple[str, ...]]
    """Continuations of a prompt for A and for B; each is scored by its first token."""
    scorer: Scorer | None
    chat: bool
    """Prompts are user turns, to be put through the model's chat template."""


class TaskSplit(NamedTuple):
    """Indices into :attr:`Task.examples`, int64, ascending; disjoint, and disjoint in groups."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Task:
    """A concept as data; made by :func:`load_task`."""

    name: str
    poles: tuple[str, str]
    """A, then B."""
    examples: tuple[Example, ...] = field(repr=False)
    reads: tuple[str, ...]
    """Where a text may be read: ``"last"`` token, ``"mean"`` over tokens, ``"marked"`` word."""
    steering: TaskSteering | None
    licence: str
    source: str
    digest: str
    """sha256 of the examples, hexadecimal."""
    about: str = ""
    own_split: tuple[str, ...] | None = field(default=None, repr=False)
    """``"train"``, ``"val"`` or ``"test"`` of every example, where the source says."""

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

    def split(self, seed: int = 0) -> TaskSplit:
        """
        Train, val and test: the source's own splits, else 60/20/20 by group, balanced between the poles.

        A source with train and test alone gets its val from a fifth of the groups of train; one with train and val
        alone has its val as test. The seed decides what the source leaves open, and nothing else.
        """
        everything = np.arange(len(self.examples), dtype=np.int64)
        own = np.array(self.own_split if self.own_split is not None else ["train"] * len(self.examples))
        named = {name: everything[own == name] for name in SPLITS if (own == name).any()}
        if len(named) == 3:
            return TaskSplit(**named)
        if len(named) == 2:
            folds = self._folds(named["train"], seed)
            test = named["test" if "test" in named else "val"]
            return TaskSplit(train=np.sort(np.concatenate(folds[1:])), val=folds[0], test=test)
        folds = self._folds(everything, seed)
        return TaskSplit(train=np.sort(np.concatenate(folds[2:])), val=folds[0], test=folds[1])

    def _folds(self, indices: np.ndarray, seed: int) -> list[np.ndarray]:
        labels, groups = self.labels[indices], np.array(self.groups)[indices]
        by_group = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
        return [indices[fold] for _, fold in by_group.split(indices, labels, groups)]


def task_names() -> list[str]:
    """Names of the tasks that ship with the package; those of public data sets, read by Hub id, as ``public/NAME``."""
    folder = data_folder("evals") / "tasks"
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob("**/*.yaml"))


def load_task(name_or_path: str | Path, *, local: str | Path | None = None) -> Task:
    """
    Read a task.

    Args:
        name_or_path: One of :func:`task_names`, or a YAML file.
        local: A file, or a folder of files, that replaces the Hub data set of the task.

    Raises:
        ConfigError: naming the file, the key, the value, what is allowed and the remedy. The file is checked whole
            before any data are read.
    """
    # the reader of files makes Tasks, so it is imported late
    from sae_lens_abstopk.evaluation.tasks.task_file import read_task_file
    from sae_lens_abstopk.evaluation.tasks.task_sources import build_task

    path = _task_path(name_or_path)
    content = read_task_file(path)
    return build_task(content, where=str(path), folder=path.parent, local=None if local is None else Path(local))


def make_task(
    name: str,
    poles: tuple[str, str],
    examples: Sequence[Example],
    *,
    reads: Iterable[str] = ("last", "mean"),
    steering: TaskSteering | None = None,
    licence: str = "",
    source: str = "",
    about: str = "",
    own_split: Sequence[str] | None = None,
) -> Task:
    """
    A task of ``examples``, checked and with its digest.

    Raises:
        ConfigError: an empty text, a text that comes twice, a group in two of the source's own splits, or too few
            groups to split.
    """
    _check_examples(examples, own_split)
    return Task(
        name=name,
        poles=poles,
        examples=tuple(examples),
        reads=tuple(reads),
        steering=steering,
        licence=licence,
        source=source,
        digest=digest_of(examples, own_split),
        about=about,
        own_split=None if own_split is None else tuple(own_split),
    )


def digest_of(examples: Sequence[Example], own_split: Sequence[str] | None) -> str:
    """sha256 of the texts with their poles, groups, marked words and splits."""
    own = own_split if own_split is not None else [None] * len(examples)
    lines = (
        json.dumps([e.text, e.pole, e.group, e.marker, s], ensure_ascii=False) + "\n"
        for e, s in zip(examples, own, strict=True)
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _check_examples(examples: Sequence[Example], own_split: Sequence[str] | None) -> None:
    seen: dict[str, int] = {}
    for example in examples:
        if not example.text.strip():
            raise ConfigError(f"a text of the group {example.group!r} is empty; take it out.")
        if example.text in seen:
            raise ConfigError(f"the text {example.text!r} comes twice; take one out, or make the two differ.")
        seen[example.text] = example.pole
    own = own_split if own_split is not None else ["train"] * len(examples)
    split_of: dict[str, str] = {}
    for example, name in zip(examples, own, strict=True):
        if split_of.setdefault(example.group, name) != name:
            raise ConfigError(
                f"the group {example.group!r} is in both {split_of[example.group]} and {name}; leave out the splits of the "
                "source, or use groups that lie within one split."
            )
    check_groups(examples, own_split)


def check_groups(examples: Sequence[Example], own_split: Sequence[str] | None) -> None:
    """
    Refuse too few groups of texts for :meth:`Task.split`.

    Raises:
        ConfigError: naming the pole, the number of its groups and the least that there must be.
    """
    own = own_split if own_split is not None else ["train"] * len(examples)
    named = set(own)
    if len(named) > 1 and "train" not in named:
        raise ConfigError(
            f"the splits of the source are {', '.join(sorted(named))}; one of them must be used as train."
        )
    for pole in (0, 1):
        for name in sorted(named) or ["train"]:
            groups = {e.group for e, s in zip(examples, own, strict=True) if e.pole == pole and s == name}
            carved = len(named) < 2 or (len(named) == 2 and name == "train")
            least = FOLDS if carved else 1
            if len(groups) < least:
                raise ConfigError(
                    f"pole {'AB'[pole]} has {len(groups)} groups of texts{'' if len(named) < 2 else f' in {name}'}; a "
                    f"split by group needs at least {least}: add templates or documents."
                )


def _task_path(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    names = task_names()
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ConfigError(f"{path}: no such file. Tasks that ship with the package: {', '.join(names)}.")
        return path
    if path.as_posix() not in names:
        raise ConfigError(
            f"task {str(name_or_path)!r} is neither a .yaml file nor a task that ships with the package"
            f"{did_you_mean(path.as_posix(), names) or ';'} tasks: {', '.join(names)}."
        )
    return data_folder("evals") / "tasks" / f"{path.as_posix()}.yaml"
