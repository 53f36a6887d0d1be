"""Whether an SAE and a language model agree on what was done to the model's weights as it was loaded."""

import warnings
from collections.abc import Mapping
from typing import Any

from sae_lens import SAE
from torch import nn
from transformer_lens import HookedTransformer
from transformer_lens.model_bridge import TransformerBridge

# what HookedTransformer does to weights as it loads them; no other class of model knows these
PROCESSING = {
    "fold_ln",
    "fold_value_biases",
    "center_writing_weights",
    "center_unembed",
    "refactor_factored_attn_matrices",
}


def processing_of(sae: SAE[Any]) -> dict[str, Any]:
    """What was done to the weights of the model that ``sae`` was trained on, by the options of HookedTransformer."""
    kwargs = recorded_options(sae)
    return {key: kwargs[key] for key in sorted(PROCESSING & kwargs.keys()) if kwargs[key]}


def recorded_options(sae: SAE[Any]) -> Mapping[str, Any]:
    """What the metadata of ``sae`` say of how its model is loaded; nothing where they hold anything else than options."""
    recorded = sae.cfg.metadata.model_from_pretrained_kwargs
    return recorded if isinstance(recorded, Mapping) else {}


def warn_of_other_weights(model: nn.Module, sae: SAE[Any]) -> None:
    """Warn where ``sae`` was trained on weights that were processed and those of ``model`` were not, or the other way round."""
    done = processing_of(sae)
    if not done and _writes_centred(model):
        warnings.warn(
            f"the weights of this {type(model).__name__} were processed as it was loaded (what it writes is centred), and the SAE "
            "was trained on the model's own, so the activations that the SAE is given are others; load the model with "
            "HookedTransformer.from_pretrained_no_processing, or a TransformerBridge without enable_compatibility_mode",
            stacklevel=3,
        )
    if done and not (isinstance(model, HookedTransformer) or getattr(model, "_weights_processed", False)):
        options = ", ".join(f"{key}={value}" for key, value in done.items())
        warnings.warn(
            f"the SAE was trained on weights that HookedTransformer processes ({options}), and this {type(model).__name__} has its "
            f"own, so the activations that the SAE is given are others; load the model with HookedTransformer and {options}",
            stacklevel=3,
        )


def _writes_centred(model: nn.Module) -> bool:
    """Whether the mean was taken out of what a model with LayerNorm writes to its residual stream, as HookedTransformer does by default."""
    if not isinstance(model, HookedTransformer | TransformerBridge) or "LN" not in (model.cfg.normalization_type or ""):
        return False
    rows = model.W_E[:1024].detach().float()
    return not rows.is_meta and bool(rows.mean(1).abs().max() < 1e-4 * rows.abs().max())
