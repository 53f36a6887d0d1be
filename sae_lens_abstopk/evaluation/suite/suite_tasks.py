"""Load the tasks of a suite with their sampled texts, checked before any model is loaded."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from sae_lens_abstopk.evaluation.probing.probe_score import Labelled
from sae_lens_abstopk.evaluation.steering.behaviour import check_behaviour_task
from sae_lens_abstopk.evaluation.suite.suite import Suite, task_key
from sae_lens_abstopk.evaluation.tasks.load_task import load_task
from sae_lens_abstopk.evaluation.tasks.task import Task
from sae_lens_abstopk.system.errors import ConfigError


def tasks_of_suite(suite: Suite, *, local: Mapping[str, str | Path] | None = None, seed: int = 0) -> dict[str, Task]:
    """
    Return the tasks of a suite with their sampled texts, by their names in the results.

    Raises:
        ConfigError: a task is missing, cannot be split or lacks prompts for steering, ``local`` names another task, or
            the seed is out of range.
    """
    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed={seed} must be a whole number from 0 to {2**32 - 1}.")
    keys = [task_key(name) for name in suite.tasks]
    files = {task_key(name): file for name, file in (local or {}).items()}
    if unknown := files.keys() - set(keys):
        raise ConfigError(f"local names {', '.join(sorted(unknown))}, not among the tasks {', '.join(keys)}.")
    tasks = {
        key: _sampled_task(load_task(name, local=files.get(key)), suite.texts_per_pole, seed)
        for key, name in zip(keys, suite.tasks, strict=True)
    }
    for name in suite.steering.tasks if suite.steering else ():
        if tasks[task_key(name)].steering is None:
            raise ConfigError(f"task {name!r} has no steering part; leave it out of steering.tasks.")
    if suite.steering and suite.steering.behaviour:
        behaviour = suite.steering.behaviour
        check_behaviour_task(tasks[task_key(behaviour.task)], questions=behaviour.questions)
    return tasks


def _sampled_task(task: Task, texts_per_pole: int | None, seed: int) -> Task:
    """Return the task with its sampled texts; raise if they cannot be split."""
    try:
        task = drawn(task, texts_per_pole, seed)
        Labelled(task.labels, task.split(seed), task.groups, seed).check(len(task.examples))
    except ConfigError as error:
        raise ConfigError(f"task {task.name!r}, with texts_per_pole={texts_per_pole}: {error}") from None
    return task


def drawn(task: Task, texts_per_pole: int | None, seed: int) -> Task:
    """Return a task with at most ``texts_per_pole`` texts of each pole."""
    if texts_per_pole is None:
        return task
    rows = rows_of_both_poles(task.labels, texts_per_pole, seed)
    own_split = None if task.own_split is None else tuple(task.own_split[row] for row in rows)
    return replace(task, examples=tuple(task.examples[row] for row in rows), own_split=own_split)


def rows_of_both_poles(poles: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Return up to ``most`` rows of pole 0 and of pole 1, drawn at random, ascending: int64."""
    order = np.random.default_rng(seed).permutation(len(poles))
    return np.sort(np.concatenate([order[poles[order] == pole][:most] for pole in (0, 1)]))
