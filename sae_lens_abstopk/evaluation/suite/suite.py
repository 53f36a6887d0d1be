"""Suites: the measurements of an evaluation, and the amount of text for each."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from sae_lens_abstopk.evaluation.steering.doses import Count, DoseOptions
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.typed_values import explain
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
    """Options of the reconstruction measurement."""

    tokens: Count = 51_200
    """Held-out tokens, rounded up to whole batches; a quotable Loss Recovered needs at least 50,000."""


class BehaviourOptions(_Section):
    """Options of :func:`~.behaviour.measure_behaviour` at the chosen steering strengths."""

    task: TaskName = "refusal"
    """A steered task whose texts are instructions to refuse (pole A) or to follow (pole B)."""
    instructions: Count = 24
    """Number of instructions for each pole."""
    max_new_tokens: Count = 24
    """Most tokens of an answer."""
    questions: Annotated[int, Field(ge=0)] = 230
    """Number of multiple-choice questions of general knowledge, through lm_eval; 0 skips them."""


class SteeringOptions(DoseOptions):
    """Options of the steering measurement."""

    tasks: tuple[TaskName, ...]
    """Tasks of the suite to steer along."""
    random_directions: Annotated[int, Field(ge=0)] = 3
    candidates: Count = 8
    """Number of best latents on train texts; val prompts choose among them."""
    behaviour: BehaviourOptions | None = None
    """Behaviour options; None skips the measurement."""


class Suite(_Section):
    """The measurements of an evaluation."""

    name: str = ""
    reconstruction: ReconstructionOptions = ReconstructionOptions()
    tasks: tuple[TaskName, ...] = ()
    texts_per_pole: Count | None = None
    """
    Texts sampled per pole, in proportion over the splits; None takes all. Poles are sampled independently, so a minimal
    pair may lose one text.
    """
    untrained: bool = True
    """Whether to probe SAEs with fresh weights too, as a control."""
    steering: SteeringOptions | None = None

    @model_validator(mode="after")
    def _tasks_fit(self) -> Self:
        keys = [task_key(name) for name in self.tasks]
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            raise ValueError(f"two tasks are named {', '.join(twice)}; results are kept by name, so rename one.")
        if self.steering is None:
            return self
        if others := set(self.steering.tasks) - set(self.tasks):
            raise ValueError(
                f"steering.tasks has {', '.join(sorted(others))}, missing from `tasks`; add them there, as steering "
                "uses the latents found by probing."
            )
        behaviour = self.steering.behaviour
        if behaviour and behaviour.task not in self.steering.tasks:
            raise ValueError(
                f"steering.behaviour.task={behaviour.task!r} is not among steering.tasks; add it there, where its "
                "strengths are chosen."
            )
        return self


def task_key(task: str) -> str:
    """Return the name of a suite's task in the results: its own or its file's."""
    return Path(task).stem if _is_file(task) else task


def load_suite(source: str | Path) -> Suite:
    """
    Load a suite by name or from a YAML file; task files beside it come before those in the current folder.

    Raises:
        ConfigError: it is missing, or a key or value is invalid.
    """
    path = shipped_file(source, data_folder("evals") / "suites", what="suite")
    raw = {"name": path.stem, **read_yaml(path)}
    try:
        return Suite.model_validate(raw, context=path)
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error, raw, Suite)}") from None
