"""Suites: the measurements of an evaluation, the amount of text for each, and their tasks."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from sae_lens_abstopk.evaluation.probing.probe_score import Labelled
from sae_lens_abstopk.evaluation.steering.doses import Count, DoseOptions
from sae_lens_abstopk.evaluation.steering.lm_eval_steering import require_lm_eval
from sae_lens_abstopk.evaluation.tasks.load_task import load_task
from sae_lens_abstopk.evaluation.tasks.task import Task
from sae_lens_abstopk.system.errors import ConfigError, errors_in, require_choice, require_distinct, require_range
from sae_lens_abstopk.system.typed_values import parsed
from sae_lens_abstopk.system.yaml_files import data_folder, read_yaml, shipped_file


def _is_file(task: str) -> bool:
    return task.endswith((".yaml", ".yml"))


def _resolve_task_path(task: str, info: ValidationInfo) -> str:
    """Prefer a task file beside the suite's (``info.context``) over one in the current folder."""
    beside = info.context.parent / task if info.context else None
    return str(beside) if beside and _is_file(task) and beside.is_file() else task


TaskName = Annotated[str, AfterValidator(_resolve_task_path)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReconstructionOptions(_Section):
    tokens: Count = 51_200
    """Held-out tokens, rounded up to whole batches; a quotable Loss Recovered needs at least 50,000."""


class BehaviourOptions(_Section):
    """Options of :func:`~.behaviour.measure_behaviour` at the chosen steering strengths."""

    task: TaskName = "refusal"
    """A steered task of instructions to refuse (pole A) or to follow (pole B)."""
    instructions: Count = 24
    """Number of instructions for each pole."""
    max_new_tokens: Count = 24
    questions: Annotated[int, Field(ge=0)] = 230
    """Number of multiple-choice questions of general knowledge, through lm_eval; 0 skips them."""


class SteeringOptions(DoseOptions):
    tasks: tuple[TaskName, ...]
    """Tasks of the suite to steer along."""
    random_directions: Annotated[int, Field(ge=0)] = 3
    candidates: Count = 8
    """Number of best latents on train texts; val prompts choose among them."""
    behaviour: BehaviourOptions | None = None


class Suite(_Section):
    """The measurements of an evaluation."""

    name: str = ""
    reconstruction: ReconstructionOptions = ReconstructionOptions()
    tasks: tuple[TaskName, ...] = ()
    texts_per_pole: Count | None = None
    """Texts sampled per pole, independently, so a minimal pair may lose one text; None takes all."""
    untrained: bool = True
    """Whether to probe SAEs with fresh weights too, as a control."""
    steering: SteeringOptions | None = None

    @model_validator(mode="after")
    def _tasks_fit(self) -> Self:
        require_distinct("the task", map(task_key, self.tasks), remedy="results are kept by name, so rename one")
        if self.steering is None:
            return self
        if others := set(self.steering.tasks) - set(self.tasks):
            names = ", ".join(sorted(others))
            raise ValueError(f"steering.tasks has {names}, missing from `tasks`; add them, as steering needs probes.")
        behaviour = self.steering.behaviour
        if behaviour and behaviour.task not in self.steering.tasks:
            raise ValueError(f"steering.behaviour.task={behaviour.task!r} is not among steering.tasks; add it there.")
        return self


def task_key(task: str) -> str:
    """Return the name of a suite's task in the results: its own or its file's."""
    return Path(task).stem if _is_file(task) else task


def load_suite(source: str | Path | Suite) -> Suite:
    """Load a suite by name or from a YAML file; task files beside it come before those in the current folder."""
    if isinstance(source, Suite):
        return source
    path = shipped_file(source, data_folder("evals") / "suites", what="suite")
    raw = {"name": path.stem, **read_yaml(path)}
    with errors_in(f"{path}: "):
        return parsed(Suite, raw, context=path)


def tasks_of_suite(suite: Suite, *, local: Mapping[str, str | Path] | None = None, seed: int = 0) -> dict[str, Task]:
    """Return the tasks of a suite with their sampled texts, by their names in the results; raise if one is unfit."""
    require_range("seed", seed, at_least=0, at_most=2**32 - 1)
    keys = [task_key(name) for name in suite.tasks]
    files = {task_key(name): file for name, file in (local or {}).items()}
    for key in files:
        require_choice("local: task", key, keys)
    tasks = {}
    for key, name in zip(keys, suite.tasks, strict=True):
        task = load_task(name, local=files.get(key))
        with errors_in(f"task {name!r}, with texts_per_pole={suite.texts_per_pole}: "):
            tasks[key] = task = drawn(task, suite.texts_per_pole, seed)
            Labelled(task.labels, task.split(seed), task.groups, seed).check()
    if suite.steering is None:
        return tasks
    for name in suite.steering.tasks:
        if tasks[task_key(name)].steering is None:
            raise ConfigError(f"task {name!r} has no steering part; leave it out of steering.tasks.")
    if behaviour := suite.steering.behaviour:
        asked = tasks[task_key(behaviour.task)]
        part = asked.steering
        if not (part and part.chat and part.scorer and part.scorer.kind == "prefixes"):
            needed = "a refusal task (chat prompts, a scorer of kind prefixes)"
            raise ConfigError(f"steering.behaviour.task={asked.name!r} must be {needed}; use 'refusal'.")
        if behaviour.questions:
            require_lm_eval()
    return tasks


def drawn(task: Task, texts_per_pole: int | None, seed: int) -> Task:
    """Return a task with at most ``texts_per_pole`` texts of each pole."""
    if texts_per_pole is None:
        return task
    rows = rows_of_both_poles(task.labels, texts_per_pole, seed)
    return replace(task, examples=tuple(task.examples[row] for row in rows))


def rows_of_both_poles(poles: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Return up to ``most`` rows of pole 0 and of pole 1, drawn at random, ascending: int64."""
    order = np.random.default_rng(seed).permutation(len(poles))
    return np.sort(np.concatenate([order[poles[order] == pole][:most] for pole in (0, 1)]))
