"""Tasks as the labelled classes that SAEBench probes for."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sae_lens_abstopk.evaluation.tasks.task import Task
from sae_lens_abstopk.system.errors import ConfigError

Classes = dict[str, list[str]]


class ClassSet(NamedTuple):
    """Texts by class; the classes of a split have equal sizes, as SAEBench expects."""

    name: str
    train: Classes
    test: Classes


def class_set(task: Task) -> ClassSet:
    """Make classes of the two poles of a task; val texts become training texts."""
    split = task.split(0)

    def classes(rows: Iterable[int]) -> Classes:
        examples = [task.examples[row] for row in rows]
        poles = enumerate(task.poles)
        return _equal_sizes({pole: [each.text for each in examples if each.pole == place] for place, pole in poles})

    return ClassSet(task.name, classes([*split.train, *split.val]), classes(split.test))


def joined(sets: Sequence[ClassSet]) -> ClassSet:
    """
    Join the classes of all sets, named ``task: pole``.

    Targeted probe perturbation needs more than two classes: with two, harm to one probe harms the other.

    Raises:
        ConfigError: there are fewer than two sets.
    """
    if len(sets) < 2:
        raise ConfigError("tpp compares classes, so it needs at least two tasks; name another with --task.")
    train, test = (
        _equal_sizes({f"{one.name}: {pole}": texts for one in sets for pole, texts in getattr(one, split).items()})
        for split in ("train", "test")
    )
    return ClassSet("+".join(one.name for one in sets), train, test)


def _equal_sizes(classes: Classes) -> Classes:
    least = min(map(len, classes.values()))
    return {name: texts[:least] for name, texts in classes.items()}
