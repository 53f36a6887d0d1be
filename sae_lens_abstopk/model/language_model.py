"""Load the language model of a spec, and its tokenizer; compare its weights with those that an SAE was trained on."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE
from sae_lens.load_model import HookedProxyLM, load_model
from torch import nn
from transformer_lens import HookedTransformer
from transformer_lens.HookedRootModule import HookedRootModule
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, AutoTokenizer

from sae_lens_abstopk.model.hook_places import require_in_stream
from sae_lens_abstopk.model.inference import autocast_pays
from sae_lens_abstopk.model.model_shape import model_errors, name_on_hub
from sae_lens_abstopk.model.model_spec import ModelSpec, require_device
from sae_lens_abstopk.system.errors import ConfigError, require_given
from sae_lens_abstopk.text.text_spec import TextSpec

PROCESSING = {
    *("fold_ln", "fold_value_biases", "center_writing_weights", "center_unembed"),
    "refactor_factored_attn_matrices",
}
"""Options of HookedTransformer, and of no other class, that change weights on loading."""


def load_language_model(spec: ModelSpec, text: TextSpec, hook_names: Sequence[str] | None = None) -> HookedRootModule:
    """
    Load a model in evaluation mode, with ``hook_names``, by default the spec's hook.

    Its dtype is the checkpoint's, or that of ``model_from_pretrained_kwargs``; 16-bit checkpoints become float32 on a
    CPU without fast 16-bit arithmetic. A :class:`ConfigError` says why it cannot be loaded.
    """
    require_device("device", spec.device)
    require_tokenizer(spec, text)
    name, options = spec.model_name, dict(spec.load_options)
    with model_errors(name):
        if spec.model_class_name == "TransformerBridge":
            require_in_stream(spec.hook_name)
            model = load_bridge(name, spec.device, options)
        elif spec.model_class_name == "AutoModelForCausalLM":
            proxied = load_transformers_model(name, spec.device, options)
            proxied.config.get_text_config().use_cache = False  # no later pass continues these, so no KV cache
            tokenizer = load_tokenizer(name, options)
            model = HookedProxyLM(proxied, tokenizer, hook_names=list(hook_names or [spec.hook_name]))
        else:
            model = load_model(spec.model_class_name, name, device=spec.device, model_from_pretrained_kwargs=options)
    first = next(model.parameters(), None)
    if first is not None and first.device.type == "cpu":
        half, chosen = first.dtype in (torch.float16, torch.bfloat16), options.keys() & {"dtype", "torch_dtype"}
        slow = half and not chosen and not autocast_pays(first.device)
        # under autocast on a CPU, layer norm does not accept float16 weights
        if slow or (spec.autocast_lm and first.dtype == torch.float16):
            model.float()
    return model.eval()


def require_tokenizer(spec: ModelSpec, text: TextSpec) -> None:
    """Raise a :class:`ConfigError` if the model's tokenizer cannot read ``text``, before any weight is read."""
    if spec.model_class_name == "HookedTransformer":  # TransformerLens knows the tokenizers of its models
        return
    failed: Exception | None = None
    tokenizer: Any = None
    with model_errors(spec.model_name):
        try:
            tokenizer = load_tokenizer(spec.model_name, spec.load_options)
        except Exception as error:  # each tokenizer class raises its own errors
            if not Path(spec.model_name).exists():
                raise
            failed = error
    # for a folder without tokenizer files, transformers makes an empty tokenizer that gives no tokens
    tokens = [] if failed else tokenizer("a b", add_special_tokens=False).input_ids
    if failed or not (text.is_dataset_tokenized or set(tokens) - {tokenizer.unk_token_id}):
        detail = f" ({type(failed).__name__}: {str(failed).splitlines()[0]})" if str(failed or "") else ""
        raise ConfigError(
            f"model_name={spec.model_name!r} has no tokenizer files that can be read{detail}; put those of its base "
            "model into its folder: AutoTokenizer.from_pretrained(BASE).save_pretrained(FOLDER)."
        ) from failed
    if text.use_chat_formatting:
        require_chat_template(tokenizer)


def require_chat_template(tokenizer: Any) -> None:
    """Raise a :class:`ConfigError` if the tokenizer has no chat template."""
    found = getattr(tokenizer, "chat_template", None)
    require_given("the tokenizer's chat template", found, "the text or prompts are chat turns, so use a chat model")


def load_bridge(model_name: str, device: str, options: dict[str, Any]) -> Any:
    """Load a TransformerBridge from a Hub id or a folder."""
    # a bridge accepts no options of from_pretrained, and would make the model float32
    hf_model, tokenizer = load_transformers_model(model_name, device, options), load_tokenizer(model_name, options)
    name = name_on_hub(model_name)
    return TransformerBridge.boot_transformers(name, hf_model=hf_model, tokenizer=tokenizer, device=device)


def load_transformers_model(model_name: str, device: str, options: dict[str, Any]) -> Any:
    """Load a transformers model on ``device``, or by a ``device_map`` in ``options``."""
    hf_model: Any = AutoModelForCausalLM.from_pretrained(name_on_hub(model_name), **options)
    # before transformers 5.21 the default attention did not cap the logits of Gemma 2
    capped = getattr(hf_model.config.get_text_config(), "attn_logit_softcapping", None)
    if capped and "attn_implementation" not in options:
        hf_model.set_attn_implementation("eager")
    return hf_model.to(device) if options.get("device_map") is None else hf_model


def load_tokenizer(model_name: str, load_options: Mapping[str, Any] | None) -> Any:
    """Load the tokenizer of a model; ``load_options`` say whether it may run its own code."""
    code = {key: value for key, value in (load_options or {}).items() if key in ("trust_remote_code", "code_revision")}
    return AutoTokenizer.from_pretrained(name_on_hub(model_name), **code)


def recorded_options(sae: SAE[Any]) -> Mapping[str, Any]:
    """Return the model's loading options in the metadata of ``sae``; an empty mapping if they are invalid."""
    recorded = sae.cfg.metadata.model_from_pretrained_kwargs
    return recorded if isinstance(recorded, Mapping) else {}


def processing_of(sae: SAE[Any]) -> dict[str, Any]:
    """Return the weight processing of the model that ``sae`` was trained on, as options of HookedTransformer."""
    options = recorded_options(sae)
    return {key: options[key] for key in sorted(PROCESSING & options.keys()) if options[key]}


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
