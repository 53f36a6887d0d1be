"""Steering written to the file that lm-evaluation-harness's own ``steered`` model type reads."""

import math
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE
from torch import nn
from transformers import AutoModelForCausalLM

from sae_lens_abstopk.evaluation.steering.interventions import Intervention
from sae_lens_abstopk.model.hook_places import find_place, transformers_model
from sae_lens_abstopk.model.model_shape import read_model_config
from sae_lens_abstopk.saes.sparse_training import RUN_TIME_NORMALISATIONS
from sae_lens_abstopk.system.errors import ConfigError


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

    The file holds a dict from the module, named from the base model on (``layers.15``, ``h.3``), to the vector, its
    coefficient and the action. lm_eval adds at *every* position, the first one and special tokens included: logits are
    those under ``steer(..., token_filter=TokenFilter())``. Its own ``clamp`` sets the projection on a direction, which is
    no latent's code, so clamped latents cannot be exported.

    Args:
        path: File to write; must end in ``.pt``.
        model: The transformers model, SAELens's proxy of it, or its name or folder, of which only the config is read.
        sae: The SAE.
        intervention: A latent or direction that is added.
        strength: alpha.
        hook_name: The SAE's by default; must be the output of a module of the transformers model.

    Raises:
        ConfigError: the operator is not ``add``, the latent's SAE normalises as it runs, the file has another ending, or
            the model has no such module.
    """
    path = Path(path)
    if path.suffix != ".pt":
        raise ConfigError(f"{path}: lm_eval knows a file of vectors by its ending; name it {path.with_suffix('.pt')}.")
    if intervention.operator != "add":
        raise ConfigError(
            f"operator={intervention.operator!r} cannot be exported: lm_eval's clamp sets the projection on a direction "
            "and not the code of a latent; export operator='add'."
        )
    if intervention.latent is not None or intervention.by_gain:
        require_constant(sae)
    if not math.isfinite(strength):
        raise ConfigError(f"strength={strength} must be a finite number.")
    model = str(model) if isinstance(model, Path) else model
    loaded: Any = model
    if isinstance(model, str):
        with torch.device("meta"):
            loaded = AutoModelForCausalLM.from_config(read_model_config(model))
    within = steered_module(loaded, sae, hook_name=hook_name)
    unit = intervention.edit(sae, 1.0)(torch.zeros(1, sae.cfg.d_in))[0]
    written = {"steering_vector": unit, "steering_coefficient": float(strength), "action": "add"}
    torch.save({within: {**written, "bias": None, "head_index": None}}, path)
    return path


def require_constant(sae: SAE[Any]) -> None:
    """
    Refuse an SAE whose latents do not add the same to every token.

    Raises:
        ConfigError: it normalises each activation as it runs.
    """
    if sae.cfg.normalize_activations in RUN_TIME_NORMALISATIONS:
        raise ConfigError(
            f"this SAE normalises activations as it runs (normalize_activations={sae.cfg.normalize_activations!r}), so "
            "what a latent adds differs from token to token, and so does a direction of the same norm (by_gain); export an "
            "Intervention of a direction with by_gain=False and a scale in the model's units."
        )


def steered_module(model: nn.Module, sae: SAE[Any], *, hook_name: str | None = None) -> str:
    """
    What lm_eval calls the module at whose output it would steer ``model``.

    Raises:
        ConfigError: lm_eval cannot steer this model, or at this hook.
    """
    hf = transformers_model(model)
    if hf is None:
        raise ConfigError("lm_eval steers transformers models; give one, or its name, and not a HookedTransformer.")
    place = find_place(hf, hook_name or sae.cfg.metadata.hook_name)
    base: Any = getattr(hf, "base_model", hf)
    within = next((name for name, module in base.named_modules() if module is place.module and name), None)
    if within is None:
        raise ConfigError(
            f"lm_eval only steers modules inside the base model, and {place.name} is not; name another hook."
        )
    return within
