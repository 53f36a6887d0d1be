"""Tasks as the labelled classes that SAEBench probes for."""

from collections.abc import Sequence
from typing import NamedTuple

from sae_lens_abstopk.evaluation.tasks.task import Task
from sae_lens_abstopk.system.errors import ConfigError

Classes = dict[str, list[str]]


class ClassSet(NamedTuple):
    """Texts by class; all classes of a split have as many, as SAEBench wants it."""

    name: str
    train: Classes
    test: Classes


def class_set(task: Task) -> ClassSet:
    """The two poles of a task as classes; its val texts are train texts here, as SAEBench has no use for val."""
    split = task.split(0)

    def classes(rows: Sequence[int]) -> Classes:
        return _evened(
            {
                pole: [task.examples[i].text for i in rows if task.examples[i].pole == place]
                for place, pole in enumerate(task.poles)
            }
        )

    return ClassSet(task.name, classes([*split.train, *split.val]), classes([*split.test]))


def joined(sets: Sequence[ClassSet]) -> ClassSet:
    """
    One set with the classes of all, named ``task: pole``.

    Targeted probe perturbation needs classes beyond a pair: with two, what harms one probe harms the other as much.

    Raises:
        ConfigError: there are fewer than two sets.
    """
    if len(sets) < 2:
        raise ConfigError(
            "tpp tells effects on one class from effects on others, so it needs the poles of at least two tasks; name "
            "another with --task."
        )
    train, test = (
        _evened({f"{one.name}: {pole}": texts for one in sets for pole, texts in getattr(one, split).items()})
        for split in ("train", "test")
    )
    return ClassSet("+".join(one.name for one in sets), train, test)


def _evened(classes: Classes) -> Classes:
    least = min(map(len, classes.values()))
    return {name: texts[:least] for name, texts in classes.items()}
