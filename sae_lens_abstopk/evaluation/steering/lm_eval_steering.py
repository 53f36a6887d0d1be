"""Write steering to the file that lm-evaluation-harness's ``steered`` model type reads."""

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

    The file maps a module, named from the base model on (``layers.15``, ``h.3``), to a vector, its coefficient and the
    action. lm_eval adds at *every* position, including the first one and special tokens: logits are those under
    ``steer(..., token_filter=TokenFilter())``. A clamped latent cannot be exported: lm_eval's ``clamp`` sets the
    projection on a direction, not the code of a latent.

    Args:
        path: File to write; must end in ``.pt``.
        model: The transformers model, SAELens's proxy of it, or its name or folder, of which only the config is read.
        sae: The SAE.
        intervention: A latent or direction that is added.
        strength: alpha.
        hook_name: The SAE's by default; must be the output of a module of the transformers model.

    Raises:
        ConfigError: the operator is not ``add``, the latent's SAE normalises as it runs, the file does not end in
            ``.pt``, or the model has no such module.
    """
    path = Path(path)
    if path.suffix != ".pt":
        raise ConfigError(f"{path}: lm_eval reads vectors from .pt files; name it {path.with_suffix('.pt')}.")
    if intervention.operator != "add":
        raise ConfigError(f"operator={intervention.operator!r} cannot be exported to lm_eval; use operator='add'.")
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
    return path


def require_constant(sae: SAE[Any]) -> None:
    """
    Raise unless the latents of ``sae`` add the same vector to every token.

    Raises:
        ConfigError: it normalises each activation as it runs.
    """
    if sae.cfg.normalize_activations in RUN_TIME_NORMALISATIONS:
        raise ConfigError(
            f"normalize_activations={sae.cfg.normalize_activations!r}: this SAE normalises each activation, so its "
            "latents add another vector to each token; export a direction with by_gain=False."
        )


def steered_module(model: nn.Module, sae: SAE[Any], *, hook_name: str | None = None) -> str:
    """
    lm_eval's name of the module whose output it would steer.

    Raises:
        ConfigError: lm_eval cannot steer this model, or at this hook.
    """
    hf = transformers_model(model)
    if hf is None:
        raise ConfigError("lm_eval steers transformers models; give one, or its name, not a HookedTransformer.")
    place = find_place(hf, hook_name or sae.cfg.metadata.hook_name)
    base: Any = getattr(hf, "base_model", hf)
    within = next((name for name, module in base.named_modules() if module is place.module and name), None)
    if within is None:
        raise ConfigError(
            f"lm_eval steers only modules inside the base model, and {place.name} is not; use another hook."
        )
    return within
