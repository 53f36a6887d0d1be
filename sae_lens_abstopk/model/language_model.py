"""Load the language model of a spec, and its tokenizer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from sae_lens.load_model import HookedProxyLM, load_model
from safetensors import SafetensorError
from transformer_lens.HookedRootModule import HookedRootModule
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, AutoTokenizer

from sae_lens_abstopk.model.autocast import autocast_pays
from sae_lens_abstopk.model.hook_places import require_in_stream
from sae_lens_abstopk.model.model_shape import name_on_hub, why_no_model
from sae_lens_abstopk.model.model_spec import ModelSpec
from sae_lens_abstopk.system.errors import TRANSPORT_ERRORS, ConfigError
from sae_lens_abstopk.text.text_spec import TextSpec


def load_language_model(spec: ModelSpec, text: TextSpec, hook_names: Sequence[str] | None = None) -> HookedRootModule:
    """
    Load a model in evaluation mode and check ``hook_names``, by default the spec's hook.

    Its dtype is the checkpoint's, or that of ``model_from_pretrained_kwargs``; 16-bit checkpoints become float32 on a
    CPU without fast 16-bit arithmetic.

    Raises:
        ConfigError: it cannot be loaded; or as :func:`require_tokenizer`.
    """
    require_tokenizer(spec, text)
    name, options = spec.model_name, dict(spec.load_options)
    if spec.model_class_name == "TransformerBridge":
        require_in_stream(spec.hook_name)
    if spec.model_class_name == "HookedTransformer" and Path(name).exists():
        raise ConfigError(
            f"model_name={name!r} is a local folder, and HookedTransformer knows models by name only; give the name on "
            "the Hub. An SAE whose metadata have fold_ln, center_writing_weights or the like needs that class."
        )
    try:
        if spec.model_class_name == "TransformerBridge":
            model = load_bridge(name, spec.device, options)
        elif spec.model_class_name == "AutoModelForCausalLM":
            proxied = load_transformers_model(name, spec.device, options)
            proxied.config.get_text_config().use_cache = False  # no later pass continues these, so no KV cache
            tokenizer = load_tokenizer(name, options)
            model = HookedProxyLM(proxied, tokenizer, hook_names=list(hook_names or [spec.hook_name]))
        else:
            model = load_model(spec.model_class_name, name, device=spec.device, model_from_pretrained_kwargs=options)
    except (ImportError, OSError, SafetensorError, TypeError, ValueError, *TRANSPORT_ERRORS) as error:
        raise ConfigError(why_no_model(name, error)) from error
    first = next(model.parameters(), None)
    if first is not None and first.device.type == "cpu":
        half, chosen = first.dtype in (torch.float16, torch.bfloat16), options.keys() & {"dtype", "torch_dtype"}
        slow = half and not chosen and not autocast_pays(first.device)
        # under autocast on a CPU, layer norm does not accept float16 weights
        if slow or (spec.autocast_lm and first.dtype == torch.float16):
            model.float()
    return model.eval()


def require_tokenizer(spec: ModelSpec, text: TextSpec) -> None:
    """
    Raise if the model's tokenizer cannot read ``text``, before any weight is read.

    For a folder without tokenizer files, transformers makes an empty tokenizer that gives no tokens.

    Raises:
        ConfigError: the tokenizer is missing or unreadable, or lacks the chat template that the text needs.
    """
    if spec.model_class_name == "HookedTransformer":  # TransformerLens knows the tokenizers of its models
        return
    failed: Exception | None = None
    tokenizer: Any = None
    try:
        tokenizer = load_tokenizer(spec.model_name, spec.load_options)
    except Exception as error:  # each tokenizer class raises its own errors
        if not Path(spec.model_name).exists():
            raise ConfigError(why_no_model(spec.model_name, error)) from error
        failed = error
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
    """
    Raise if the tokenizer has no chat template.

    Raises:
        ConfigError: it has none.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ConfigError(
            "the text or prompts are chat turns, and the tokenizer has no chat template; use a chat model."
        )


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
