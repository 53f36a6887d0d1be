"""Accuracy on multiple-choice questions, steered or not, by lm-evaluation-harness."""

import logging
import random
from collections.abc import Mapping
from contextlib import ExitStack
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


@dataclass(frozen=True)
class MultipleChoiceScore:
    """Result of :func:`multiple_choice`."""

    right: tuple[float, ...]
    """For each question, in order: 1 if its right answer has the highest log-likelihood, else 0."""

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return sum(self.right) / len(self.right)


def require_lm_eval() -> Any:
    """
    Import lm_eval.

    Raises:
        ConfigError: it is not installed, or cannot be imported.
    """
    try:
        import lm_eval.api.registry
        import lm_eval.tasks
    except Exception as error:  # a version too old for transformers fails in any way
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
    Run lm_eval on ``questions`` with its model type ``hf``, or ``steered`` with a steering file.

    Args:
        pretrained: Name or folder of a transformers model, or the model itself.
        tokenizer: Of a model given itself; it is not changed.
        questions: JSONL with ``question``, ``choices`` and ``answer`` (an index); the shipped ones by default.
        steering: A file by :func:`export_for_lm_eval`.
        limit: Questions from the start; all by default.
        device: For a model that is loaded.
        model_kwargs: Options of ``from_pretrained`` for a model that is loaded, such as a dtype.

    Raises:
        ConfigError: lm_eval is not installed, a file is missing, or a question is incomplete.
    """
    lm_eval = require_lm_eval()
    task = yaml.safe_load((data_folder("evals") / "multiple_choice" / TASK_FILE).read_text())
    files = task["dataset_kwargs"]["data_files"]
    files["test"] = str(questions or data_folder("evals").parent / files["test"])
    if questions is not None:
        require_questions(Path(questions))
    # torch_dtype is the old name of dtype, which lm_eval passes itself
    renamed = {"dtype" if key == "torch_dtype" else key: value for key, value in (model_kwargs or {}).items()}
    if steering:
        renamed["steer_path"] = str(steering)
    make = lm_eval.api.registry.get_model("steered" if steering else "hf")
    with ExitStack() as restored:
        restored.callback(random.setstate, random.getstate())  # lm_eval draws names for the task
        if isinstance(pretrained, nn.Module):
            restored.enter_context(in_evaluation_mode(pretrained))
            logger = logging.getLogger("lm_eval.models.huggingface")  # it warns of a model that is given itself
            restored.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        else:
            pretrained = str(pretrained)
        model = make(pretrained=pretrained, tokenizer=deepcopy(tokenizer), device=device, batch_size=16, **renamed)
        found = lm_eval.simple_evaluate(
            model=model,
            tasks=[task],
            # its own tasks are 14,000 files, read at each call
            task_manager=lm_eval.tasks.TaskManager(include_defaults=False),
            limit=limit,
            bootstrap_iters=0,
            # leave the random state of the caller alone
            random_seed=None,
            numpy_random_seed=None,
            torch_random_seed=None,
        )
    (samples,) = found["samples"].values()
    right = {sample["doc_id"]: float(sample["acc"]) for sample in samples}  # a question has a sample per filter
    return MultipleChoiceScore(tuple(right[question] for question in sorted(right)))


def require_questions(path: Path) -> None:
    """
    Raise unless lm_eval can score every question of a file; it would count a bad index as a wrong answer.

    Raises:
        ConfigError: a line lacks a question, a list of choices or the index of one.
    """
    for number, row in enumerate(file_rows(path), start=1):
        choices, answer = row.get("choices"), row.get("answer")
        if not (isinstance(row.get("question"), str) and isinstance(choices, list) and choices):
            raise ConfigError(f"{path}, line {number}: a question needs question (text), choices (a list) and answer.")
        if type(answer) is not int or not 0 <= answer < len(choices):
            raise ConfigError(
                f"{path}, line {number}: answer={answer!r} must be an index of choices, 0 to {len(choices) - 1}."
            )
