"""Check that SAEs can be measured on the same activations: one hook, width and model, with the same weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sae_lens import SAE

from sae_lens_abstopk.evaluation.subjects.sae_specs import WEIGHTS
from sae_lens_abstopk.model.hook_places import residual_layer
from sae_lens_abstopk.model.language_model import processing_of, recorded_options
from sae_lens_abstopk.saes.measurable import read_by
from sae_lens_abstopk.system.errors import ConfigError


def require_one_place(saes: Sequence[SAE[Any]], *, same_model: bool = False) -> None:
    """
    Raise if SAEs cannot be measured on the same activations.

    Args:
        saes: At least one.
        same_model: Whether all read one model, whatever their metadata say.

    Raises:
        ConfigError: they read different hooks or models, or have inputs of different widths.
    """
    hooks, widths = {read_by(sae) for sae in saes}, {sae.cfg.d_in for sae in saes}
    if len(hooks) > 1 and len({_place(sae) for sae in saes}) > 1:
        raise ConfigError(
            f"the SAEs read different hooks ({', '.join(sorted(hooks))}); take those of one hook at a time."
        )
    weights = {repr(weights_of(sae)) for sae in saes}
    if len(weights) > 1:
        raise ConfigError(
            f"the SAEs were trained on different weights of their model ({'; '.join(sorted(weights))}); evaluate each "
            "by itself, and combine the results with `abstopk report`."
        )
    if len(widths) > 1:
        raise ConfigError(
            f"the SAEs read activations of different widths ({', '.join(map(str, sorted(widths)))}), so they are of "
            "different models; give those of one model at a time."
        )
    models = {Path(name).name for sae in saes if (name := sae.cfg.metadata.model_name)}
    if len(models) > 1 and not same_model:
        raise ConfigError(
            f"the SAEs are of different models ({', '.join(sorted(models))}); give those of one model at a time, or, "
            "if these are names of the same model, choose one with --model NAME."
        )


def weights_of(sae: SAE[Any]) -> dict[str, Any]:
    """Return the options of the model weights that an SAE was trained on, without their dtype."""
    kwargs = recorded_options(sae)
    named = {key: kwargs[key] for key in sorted(WEIGHTS & kwargs.keys()) if kwargs[key] is not None}
    return {key: value for key, value in named.items() if key not in ("dtype", "torch_dtype")} | processing_of(sae)


def _place(sae: SAE[Any]) -> str | int:
    """Return the layer whose output an SAE reads, else the hook."""
    # with processed weights, activations differ from those of transformers
    layer = None if processing_of(sae) else residual_layer(str(sae.cfg.metadata.hook_name))
    return read_by(sae) if layer is None else layer
