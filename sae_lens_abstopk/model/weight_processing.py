"""Check that an SAE and a language model agree on the processing of the model's weights."""

import warnings
from collections.abc import Mapping
from typing import Any

from sae_lens import SAE
from torch import nn
from transformer_lens import HookedTransformer
from transformer_lens.model_bridge import TransformerBridge

PROCESSING = {
    *("fold_ln", "fold_value_biases", "center_writing_weights", "center_unembed"),
    "refactor_factored_attn_matrices",
}
"""Options of HookedTransformer, and of no other class, that change weights on loading."""


def processing_of(sae: SAE[Any]) -> dict[str, Any]:
    """Return the weight processing of the model that ``sae`` was trained on, as options of HookedTransformer."""
    options = recorded_options(sae)
    return {key: options[key] for key in sorted(PROCESSING & options.keys()) if options[key]}


def recorded_options(sae: SAE[Any]) -> Mapping[str, Any]:
    """Return the model's loading options in the metadata of ``sae``; an empty mapping if they are invalid."""
    recorded = sae.cfg.metadata.model_from_pretrained_kwargs
    return recorded if isinstance(recorded, Mapping) else {}


def warn_of_other_weights(model: nn.Module, sae: SAE[Any]) -> None:
    """Warn if only one of ``model`` and the model that ``sae`` was trained on has processed weights."""
    done, kind = processing_of(sae), type(model).__name__
    if not done and _writes_centred(model):
        warnings.warn(
            f"the weights of this {kind} were processed when it was loaded (its writes are centred), and the SAE was "
            "trained on the original ones, so the activations differ; load the model with "
            "HookedTransformer.from_pretrained_no_processing, or a TransformerBridge without enable_compatibility_mode",
            stacklevel=3,
        )
    if done and not (isinstance(model, HookedTransformer) or getattr(model, "_weights_processed", False)):
        options = ", ".join(f"{key}={value}" for key, value in done.items())
        warnings.warn(
            f"the SAE was trained on weights that HookedTransformer processes ({options}), and this {kind} has the "
            f"original ones, so the activations differ; load the model with HookedTransformer and {options}",
            stacklevel=3,
        )


def _writes_centred(model: nn.Module) -> bool:
    """Return whether a model with LayerNorm writes centred vectors to its residual stream."""
    if not isinstance(model, HookedTransformer | TransformerBridge) or "LN" not in (model.cfg.normalization_type or ""):
        return False
    rows = model.W_E[:1024].detach().float()
    return not rows.is_meta and bool(rows.mean(1).abs().max() < 1e-4 * rows.abs().max())
