"""Suites: which tasks an evaluation runs, on how much text."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo

from sae_lens_abstopk.evaluation.steering.doses import Count, DoseOptions
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.yaml_files import data_folder, read_yaml, shipped_file
from sae_lens_abstopk.training.config.presets import YAML


def _beside(task: str, info: ValidationInfo) -> str:
    """A task file beside that of the suite (``info.context``), where there is one, before one in the current folder."""
    beside = info.context.parent / task if info.context else None
    return str(beside) if beside and task.endswith(YAML) and beside.is_file() else task


TaskName = Annotated[str, AfterValidator(_beside)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReconstructionOptions(_Section):
    """How reconstruction is measured."""

    tokens: Count = 51_200
    """Of the run's held-out text, rounded up to whole batches; a Loss Recovered to quote takes 50,000 at least."""


class BehaviourOptions(_Section):
    """What else the model does at the strengths that steering chose (see :func:`~.behaviour.measure_behaviour`)."""

    task: TaskName = "refusal"
    """Of the steered tasks, one whose texts are instructions to refuse (pole A) or to follow (pole B)."""
    instructions: Count = 24
    """Of each pole."""
    max_new_tokens: Count = 24
    """Of an answer."""
    questions: Annotated[int, Field(ge=0)] = 230
    """Multiple-choice questions of general knowledge, answered through lm_eval; 0 leaves them out."""


class SteeringOptions(DoseOptions):
    """How a suite measures steering."""

    tasks: tuple[TaskName, ...]
    """Of the suite's tasks, those that are steered."""
    random_directions: Annotated[int, Field(ge=0)] = 3
    candidates: Count = 8
    """Latents, the best on train texts, among which val prompts choose."""
    behaviour: BehaviourOptions | None = None
    """Measured where it is given."""


class Suite(_Section):
    """What an evaluation runs."""

    name: str = ""
    reconstruction: ReconstructionOptions = ReconstructionOptions()
    tasks: tuple[TaskName, ...] = ()
    texts_per_pole: Count | None = None
    """
    Texts drawn of each pole; all where None. Each pole is drawn by itself, over all splits in proportion, so of two texts
    that differ in nothing but the pole one may be drawn without the other.
    """
    untrained: bool = True
    """Probe SAEs with fresh weights too, as a control."""
    steering: SteeringOptions | None = None


def task_key(task: str) -> str:
    """What a task of a suite is called in the results: its name, or that of its file."""
    return Path(task).stem if task.endswith(YAML) else task


def load_suite(source: str | Path) -> Suite:
    """
    A suite by name, or from a YAML file, beside which files of tasks are looked for first.

    Raises:
        ConfigError: it is missing, or a key or value is not understood.
    """
    path = shipped_file(source, data_folder("evals") / "suites", what="suite")
    try:
        suite = Suite.model_validate({"name": path.stem, **read_yaml(path)}, context=path)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        sections = {"steering": SteeringOptions, "behaviour": BehaviourOptions, "reconstruction": ReconstructionOptions}
        parents = [sections[part] for part in first["loc"][:-1] if part in sections]
        allowed = (parents[-1] if parents else Suite).model_fields
        raise ConfigError(f"{path}: {key}: {first['msg'].lower()}; keys: {', '.join(allowed)}.") from None
    require_probed(suite, where=str(path))
    return suite


def require_probed(suite: Suite, *, where: str = "the suite") -> None:
    """
    Refuse to steer by tasks that are not probed, and to measure behaviour at strengths that nothing chooses.

    Raises:
        ConfigError: naming ``where``, the key and the tasks.
    """
    if suite.steering is None:
        return
    if others := set(suite.steering.tasks) - set(suite.tasks):
        raise ConfigError(
            f"{where}: steering.tasks has {', '.join(sorted(others))}, missing from `tasks`; add them there, as steering uses "
            "the latents found by probing."
        )
    behaviour = suite.steering.behaviour
    if behaviour and behaviour.task not in suite.steering.tasks:
        raise ConfigError(
            f"{where}: steering.behaviour.task={behaviour.task!r} is not among steering.tasks; add it there, where its "
            "strengths are chosen."
        )
