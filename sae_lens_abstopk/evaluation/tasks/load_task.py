"""Load a task by name or from a YAML file."""

from pathlib import Path

from sae_lens_abstopk.evaluation.tasks.row_examples import examples_of_rows
from sae_lens_abstopk.evaluation.tasks.task import Scorer, Task, TaskSteering
from sae_lens_abstopk.evaluation.tasks.task_schema import SteeringSection, TaskFile
from sae_lens_abstopk.evaluation.tasks.task_templates import examples_of_templates
from sae_lens_abstopk.system.errors import ConfigError, errors_in, require_choice
from sae_lens_abstopk.system.typed_values import parsed
from sae_lens_abstopk.system.yaml_files import data_folder, read_yaml


def task_names() -> list[str]:
    """Return the names of the shipped tasks; those on public Hub data sets are ``public/NAME``."""
    folder = data_folder("evals") / "tasks"
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob("**/*.yaml"))


def load_task(name_or_path: str | Path, *, local: str | Path | None = None) -> Task:
    """
    Read a task: one of :func:`task_names`, or a YAML file; a file or folder ``local`` replaces its Hub data set.

    Raises:
        ConfigError: naming the file, the key, the value, what is allowed and the remedy. All keys are checked before
            data are read.
    """
    path, names = Path(name_or_path), task_names()
    if path.as_posix() in names:
        path = data_folder("evals") / "tasks" / f"{path.as_posix()}.yaml"
    elif path.suffix not in (".yaml", ".yml") or not path.is_file():
        require_choice("task", str(path), names, remedy=", or give a .yaml file")
    raw = read_yaml(path)
    with errors_in(f"{path}: "):
        return build_task(parsed(TaskFile, raw), path.parent, None if local is None else Path(local))


def build_task(task: TaskFile, folder: Path, local: Path | None = None) -> Task:
    """Build the task of a checked file in ``folder``; ``local`` replaces the path in the file."""
    if task.templates is None:
        examples = examples_of_rows(task, folder, local)
    elif local is None:
        examples = list(examples_of_templates(task))
    else:
        raise ConfigError(f"local={str(local)!r} has nothing to replace, as the texts are in the file itself.")
    return Task(
        name=task.name,
        poles=(task.poles[0], task.poles[1]),
        examples=tuple(examples),
        reads=tuple(task.reads),
        steering=None if task.steering is None else _steering(task.steering, task.poles),
        licence=task.licence,
        source=task.source,
        about=task.about,
    )


def _steering(part: SteeringSection, poles: list[str]) -> TaskSteering:
    a, b = poles
    scorer = None
    if part.scorer is not None:
        words = part.scorer.patterns
        scorer = Scorer(part.scorer.kind, (tuple(words[a]), tuple(words.get(b, ()))))
    return TaskSteering(tuple(part.prompts), (tuple(part.tokens[a]), tuple(part.tokens[b])), scorer, part.chat)
