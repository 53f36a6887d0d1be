"""lm-evaluation-harness: export steering to its ``steered`` model type, and have it answer multiple choice."""

import logging
import random
from collections.abc import Mapping
from contextlib import ExitStack
from copy import deepcopy
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import yaml
from sae_lens import SAE
from torch import nn
from transformers import AutoModelForCausalLM

from sae_lens_abstopk.evaluation.steering.interventions import Intervention
from sae_lens_abstopk.evaluation.tasks.task_rows import file_rows
from sae_lens_abstopk.model.hook_places import find_place, transformers_model
from sae_lens_abstopk.model.inference import in_evaluation_mode
from sae_lens_abstopk.model.model_shape import read_model_config
from sae_lens_abstopk.saes.sparse_training import require_one_scale
from sae_lens_abstopk.system.errors import ConfigError, require_choice
from sae_lens_abstopk.system.yaml_files import data_folder


def export_for_lm_eval(
    path: str | Path,
    model: nn.Module | str | Path,
    sae: SAE[Any],
    intervention: Intervention,
    strength: float,
    *,
    hook_name: str | None = None,
) -> Path:
    """
    Write an intervention that adds to a ``.pt`` file for ``lm_eval --model steered --model_args steer_path=FILE``.

    The file maps a module, named from the base model on (``layers.15``, ``h.3``), to a vector, its coefficient and the
    action. lm_eval adds at *every* position, including the first one and special tokens: logits are those under
    ``steer(..., token_filter=TokenFilter())``. A clamped latent cannot be exported: lm_eval's ``clamp`` sets the
    projection on a direction, not the code of a latent.

    ``model`` is the transformers model, SAELens's proxy of it, or its name or folder, of which only the config is read.
    ``hook_name``, by default the SAE's, must be the output of a module of the transformers model.

    Raises:
        ConfigError: the operator is not ``add``, the latent's SAE normalises as it runs, or the model has no such
            module.
    """
    require_choice("operator", intervention.operator, ("add",))
    if intervention.latent is not None or intervention.by_gain:
        require_constant(sae)
    loaded: Any = model
    if not isinstance(model, nn.Module):
        with torch.device("meta"):
            loaded = AutoModelForCausalLM.from_config(read_model_config(str(model)))
    unit = intervention.edit(sae, 1.0)(torch.zeros(1, sae.cfg.d_in))[0]
    written = {"steering_vector": unit, "steering_coefficient": float(strength), "action": "add"}
    module = steered_module(loaded, sae, hook_name=hook_name)
    torch.save({module: {**written, "bias": None, "head_index": None}}, path)
    return Path(path)


def require_constant(sae: SAE[Any]) -> None:
    """Raise unless the latents of ``sae`` add the same vector to every token."""
    require_one_scale(sae.cfg, "lm_eval adds one vector to all tokens: export a direction with by_gain=False")


def steered_module(model: nn.Module, sae: SAE[Any], *, hook_name: str | None = None) -> str:
    """lm_eval's name of the module whose output it would steer; raises if it cannot steer this model, or there."""
    name, hf = hook_name or sae.cfg.metadata.hook_name, transformers_model(model)
    if hf is not None and len({weight.device for weight in hf.parameters()}) == 1:
        place, base = find_place(hf, name), getattr(hf, "base_model", hf)
        for within, module in base.named_modules():
            if module is place.module and within:
                return within
    raise ConfigError(
        f"lm_eval steers modules inside the base model of a transformers model on one device; {name} is none here."
    )


def require_lm_eval() -> Any:
    """Import lm_eval; raise if it is missing or cannot be imported."""
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
) -> tuple[float, ...]:
    """
    For each question: 1 if lm_eval gives its right answer the highest log-likelihood, else 0.

    Args:
        pretrained: A transformers model with its ``tokenizer``, or a name or folder to load to ``device`` with the
            options ``model_kwargs`` of ``from_pretrained``.
        questions: JSONL with ``question``, ``choices`` and ``answer`` (an index); the shipped ones by default.
        steering: A file by :func:`export_for_lm_eval`.
        limit: Questions from the start; all by default.

    Raises:
        ConfigError: lm_eval is not installed, a file is missing, or a question is incomplete.
    """
    lm_eval = require_lm_eval()
    task = yaml.safe_load((data_folder("evals") / "multiple_choice" / "abstopk_multiple_choice.yaml").read_text())
    files = task["dataset_kwargs"]["data_files"]
    files["test"] = str(questions or data_folder("evals").parent / files["test"])
    if questions is not None:
        _require_questions(Path(questions))
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
    return tuple(right[question] for question in sorted(right))


def _require_questions(path: Path) -> None:
    """Raise unless lm_eval can score every question; it would count a bad index as a wrong answer."""
    for number, row in enumerate(file_rows(path), start=1):
        choices, answer = row.get("choices"), row.get("answer")
        fits = isinstance(choices, list) and type(answer) is int and 0 <= answer < len(choices)
        if not (fits and isinstance(row.get("question"), str)):
            raise ConfigError(
                f"{path}, line {number}: a question needs question (text), choices (a list) and answer (an index of "
                f"choices, from 0), not choices={choices!r} and answer={answer!r}."
            )
