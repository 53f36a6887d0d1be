"""Tasks from a column of labels: two values are poles; of more, each is a pole against the others."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from sae_lens_abstopk.evaluation.probing.probe_score import Labelled
from sae_lens_abstopk.evaluation.subjects.vector_subjects import VectorSubjects
from sae_lens_abstopk.evaluation.suite.suite import rows_of_both_poles
from sae_lens_abstopk.evaluation.tasks.task import Example, Task
from sae_lens_abstopk.model.representations import ROW
from sae_lens_abstopk.system.errors import ConfigError, errors_in, require_range
from sae_lens_abstopk.vectors.vector_spec import VectorPart

MOST_VALUES = 20
"""Most values of a column; each takes a probe of its own."""
OTHERS = "other values"


def tasks_of_labels(
    subjects: VectorSubjects, column: str, *, per_pole: int | None = None, seed: int = 0
) -> dict[str, Task]:
    """
    Return a task for a column of two values, or one for each of several values, by name.

    Test rows are those that the run held out, and train and val rows those that it trained on. Of other vectors, rows
    are split at random. The text of an example is the number of its row; rows without a label are left out.

    Args:
        per_pole: Most rows of a pole in each part, drawn by ``seed``; None takes all.
        seed: Seed of the draw and of the split.

    Raises:
        ConfigError: there is no such column, or it has too few or too many values, or too few rows of one of two.
    """
    values = subjects.vectors.column(column)
    labels = {row: str(value) for row, value in enumerate(values) if value is not None and value == value}
    kinds = sorted(set(labels.values()))
    require_range(f"labels={column!r}: different values", len(kinds), at_least=2, at_most=MOST_VALUES)
    if len(kinds) == 2:
        return {column: _task(subjects, column, labels, (kinds[0], kinds[1]), per_pole, seed)}
    tasks = {}
    for kind in kinds:
        name = f"{column}={kind}"
        try:
            tasks[name] = _task(subjects, name, labels, (OTHERS, kind), per_pole, seed)
        except ConfigError as error:  # a rare value
            warnings.warn(f"{error} It is left out.", stacklevel=2)
    if not tasks:
        raise ConfigError(f"labels={column!r}: no value of the column has enough rows to probe.")
    return tasks


def _task(
    subjects: VectorSubjects, name: str, labels: dict[int, str], poles: tuple[str, str], most: int | None, seed: int
) -> Task:
    vectors, spec = subjects.vectors, subjects.spec
    groups: Sequence[Any] = range(len(vectors)) if spec.group is None else vectors.column(spec.group)
    parts: dict[str | None, VectorPart] = (
        {None: "all"} if subjects.part == "all" else {"train": "train", "test": "held_out"}
    )
    examples: list[Example] = []
    for split, part in parts.items():
        rows = np.array([row for row in vectors.part(spec, part).tolist() if row in labels], dtype=np.int64)
        of_b = np.array([labels[row] == poles[1] for row in rows.tolist()], dtype=np.int64)
        if most is not None:
            drawn = rows_of_both_poles(of_b, most, seed)
            rows, of_b = rows[drawn], of_b[drawn]
        pairs = zip(rows.tolist(), of_b.tolist(), strict=True)
        examples += [Example(str(row), pole, str(groups[row]), split=split) for row, pole in pairs]
    with errors_in(f"labels of {name!r} ({poles[0]!r} and {poles[1]!r}): "):
        task = Task(name, poles, tuple(examples), reads=(ROW,), source=subjects.text_name)
        Labelled(task.labels, task.split(seed), task.groups, seed).check()
    return task
