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
    Raise ConfigError if SAEs read different hooks or models, or activations of different widths.

    With ``same_model`` they read one model, whatever their metadata say.
    """
    hooks = {read_by(sae) for sae in saes}
    places = {_place(sae) for sae in saes} if len(hooks) > 1 else hooks
    models = {Path(name).name for sae in saes if (name := sae.cfg.metadata.model_name)}
    for different, found, remedy in (
        ("read different hooks", hooks if len(places) > 1 else (), "take those of one hook at a time"),
        (
            "were trained on different weights of their model",
            {repr(weights_of(sae)) for sae in saes},
            "evaluate each by itself, and combine the results with `abstopk report`",
        ),
        (
            "read activations of different widths",
            {str(sae.cfg.d_in) for sae in saes},
            "they are of different models, so give those of one model at a time",
        ),
        (
            "are of different models",
            () if same_model else models,
            "give those of one model at a time, or, if these are names of the same model, choose one with --model NAME",
        ),
    ):
        if len(found) > 1:
            raise ConfigError(f"the SAEs {different} ({', '.join(sorted(found))}); {remedy}.")


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
