"""Accuracy on multiple-choice questions, steered or not, by lm-evaluation-harness."""

import logging
import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from sae_lens_abstopk.evaluation.tasks.task_rows import file_rows
from sae_lens_abstopk.model.evaluation_mode import in_evaluation_mode
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.yaml_files import data_folder

TASK_FILE = "abstopk_multiple_choice.yaml"
# requests at once
BATCH_SIZE = 16


@dataclass(frozen=True)
class MultipleChoiceScore:
    """What lm_eval found."""

    right: tuple[float, ...]
    """Of each question, in order: 1 where its right answer has the highest log-likelihood, else 0."""

    @property
    def accuracy(self) -> float:
        """Share of questions answered rightly."""
        return sum(self.right) / len(self.right)


def require_lm_eval() -> Any:
    """
    The package.

    Raises:
        ConfigError: it is not installed, or cannot be imported.
    """
    try:
        import lm_eval.api.registry
        import lm_eval.tasks
    except Exception as error:  # a version that is too old for transformers fails in any way
        installed = find_spec("lm_eval") is not None
        found = f", and {version('lm_eval')} cannot be imported ({type(error).__name__}: {error})" if installed else ""
        raise ConfigError(
            f"multiple choice needs lm_eval 0.4.12 or later{found}; pip install 'sae-lens-abstopk[lm-eval]'."
        ) from None
    return lm_eval


def multiple_choice(
    pretrained: str | Path | nn.Module,
    *,
    tokenizer: Any = None,
    questions: str | Path | None = None,
    steering: str | Path | None = None,
    limit: int | None = None,
    device: str = "cpu",
    model_kwargs: Mapping[str, Any] | None = None,
) -> MultipleChoiceScore:
    """
    Run lm_eval on ``questions`` with its model type ``hf``, or ``steered`` where a file of steering is given.

    Args:
        pretrained: Name or folder of a transformers model, or the model itself, which is run as it is.
        tokenizer: Of a model that is given itself; it is not changed.
        questions: JSONL with ``question``, ``choices`` and ``answer`` (an index); the shipped ones by default.
        steering: What :func:`export_for_lm_eval` wrote.
        limit: Questions from the start; all by default.
        device: For a model that is loaded.
        model_kwargs: Options of ``from_pretrained`` that such a model is loaded with, such as a dtype.

    Raises:
        ConfigError: lm_eval is not installed, a file is missing, or a question in it lacks what it needs.
    """
    lm_eval = require_lm_eval()
    pretrained = str(pretrained) if isinstance(pretrained, Path) else pretrained
    if questions is not None:
        require_questions(Path(questions))
    task = yaml.safe_load((data_folder("evals") / "multiple_choice" / TASK_FILE).read_text())
    shipped = data_folder("evals").parent / task["dataset_kwargs"]["data_files"]["test"]
    if steering and not Path(steering).is_file():
        raise ConfigError(f"{steering}: no such file.")
    task["dataset_kwargs"]["data_files"]["test"] = str(questions or shipped)
    # torch_dtype is the older name of dtype, and the one of lm_eval's own call of from_pretrained
    renamed = {"dtype" if key == "torch_dtype" else key: value for key, value in (model_kwargs or {}).items()}
    arguments: dict[str, Any] = {
        "tokenizer": deepcopy(tokenizer),
        "device": device,
        "batch_size": BATCH_SIZE,
        **renamed,
    }
    if steering:
        arguments["steer_path"] = str(steering)
    make = lm_eval.api.registry.get_model("steered" if steering else "hf")
    alone = lm_eval.tasks.TaskManager(include_defaults=False)  # its own tasks are 14,000 files, read anew at each call
    with ExitStack() as as_it_was:
        as_it_was.callback(random.setstate, random.getstate())  # it draws names for the task
        if not isinstance(pretrained, str):
            as_it_was.enter_context(in_evaluation_mode(pretrained))
        with nullcontext() if isinstance(pretrained, str) else _warnings_off():
            model = make(pretrained=pretrained, **arguments)
        found = lm_eval.simple_evaluate(
            model=model,
            tasks=[task],
            task_manager=alone,
            limit=limit,
            bootstrap_iters=0,
            # else these are set, and what the caller draws next would be the same each time
            random_seed=None,
            numpy_random_seed=None,
            torch_random_seed=None,
        )
    (samples,) = found["samples"].values()
    right = {sample["doc_id"]: float(sample["acc"]) for sample in samples}  # a question has a sample for each filter
    return MultipleChoiceScore(tuple(right[question] for question in sorted(right)))


def require_questions(path: Path) -> None:
    """
    Refuse a file that lm_eval would count wrong answers in: of one that names no choice it takes none for right.

    Raises:
        ConfigError: a line has no question, list of choices or index of one.
    """
    for number, row in enumerate(file_rows(path), start=1):
        choices, answer = row.get("choices"), row.get("answer")
        if not (isinstance(row.get("question"), str) and isinstance(choices, list) and choices):
            raise ConfigError(f"{path}, line {number}: a question needs question (text), choices (a list) and answer.")
        if type(answer) is not int or not 0 <= answer < len(choices):
            raise ConfigError(
                f"{path}, line {number}: answer={answer!r} must be the index of the right choice, 0 to {len(choices) - 1}."
            )


@contextmanager
def _warnings_off() -> Iterator[None]:
    """lm_eval warns of a model that it is handed, which is how it is meant here."""
    logger = logging.getLogger("lm_eval.models.huggingface")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
