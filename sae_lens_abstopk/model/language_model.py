"""The language model of a run: looked at before its weights are read, then loaded the way the config asks."""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from sae_lens.load_model import HookedProxyLM, load_model
from sae_lens.util import extract_layer_from_tlens_hook_name, extract_stop_at_layer_from_tlens_hook_name
from safetensors import SafetensorError
from torch import nn
from transformer_lens import HookedTransformer
from transformer_lens.HookedRootModule import HookedRootModule
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, AutoTokenizer

from sae_lens_abstopk.model.autocast import autocast_pays
from sae_lens_abstopk.model.generation import require_chat_template
from sae_lens_abstopk.model.hook_places import LAYER_MODULE, OTHER_TOWERS, layer_names, require_in_stream
from sae_lens_abstopk.model.model_passes import of_head
from sae_lens_abstopk.model.model_shape import model_shape, name_on_hub, read_model_config, why_no_model
from sae_lens_abstopk.system.errors import TRANSPORT_ERRORS, ConfigError
from sae_lens_abstopk.training.config.training_config import TrainingConfig

# embeddings of positions in GPT-2, GPT-Neo, OPT and their like
POSITION_TABLE = re.compile(r"(^|\.)(wpe|embed_positions)$")


def check_hook(cfg: TrainingConfig) -> None:
    """
    Refuse a hook that the model lacks or an SAE of another width, before any weight is read.

    Raises:
        ConfigError: naming the hook and the nearest ones that exist, or both widths; or the model cannot be had, or is no
            causal language model.
    """
    loaded_with = cfg.model_from_pretrained_kwargs or {}
    layers, width, longest = model_shape(cfg.model_name, cfg.model_class_name, loaded_with)
    model = None if cfg.model_class_name == "HookedTransformer" else _without_weights(cfg)
    _check_context(cfg, longest if model is None else most_positions(model))
    if model is not None and cfg.model_class_name == "AutoModelForCausalLM":
        _check_name(cfg, model, layers)
        reads_residual = LAYER_MODULE.search(cfg.hook_name)
    else:
        layer = re.search(r"(^|\.)blocks\.(\d+)\.", cfg.hook_name)
        if layer is None or int(layer[2]) >= layers:
            raise ConfigError(
                f"hook_name={cfg.hook_name!r} is no hook of a block of {cfg.model_name}, which has layers 0 to {layers - 1}; "
                f"{cfg.model_class_name} calls the residual stream after one 'blocks.{layers // 2}.hook_resid_post', and the embeddings "
                "'blocks.0.hook_resid_pre'."
            )
        reads_residual = "hook_resid" in cfg.hook_name
    if reads_residual and cfg.sae.d_in != width:
        raise ConfigError(
            f"sae.d_in={cfg.sae.d_in} but {cfg.model_name} is {width} wide; set sae.d_in={width} or leave it out."
        )


def _without_weights(cfg: TrainingConfig) -> nn.Module:
    loaded_with = cfg.model_from_pretrained_kwargs or {}
    config = read_model_config(cfg.model_name, loaded_with)
    own_code = {key: loaded_with[key] for key in ("trust_remote_code", "code_revision") if key in loaded_with}
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, **own_code)
    except ValueError as error:
        if "Unrecognized configuration class" not in str(error):
            raise ConfigError(why_no_model(cfg.model_name, error)) from error
        raise ConfigError(
            f"model_name={cfg.model_name!r} is of the type {config.model_type}, for which transformers has no causal "
            "language model; name its text model, or another model that is one."
        ) from error


def _check_name(cfg: TrainingConfig, model: nn.Module, layers: int) -> None:
    names = [name for name, _ in model.named_modules() if name and not OTHER_TOWERS.search(name)]
    if cfg.hook_name in names:
        return
    residual = layer_names(model)
    asked = extract_layer_from_tlens_hook_name(cfg.hook_name)
    if asked is not None and asked >= layers:
        nearest = residual[-1:]
    else:
        nearest = difflib.get_close_matches(cfg.hook_name, names, n=3) or residual[layers // 2 : layers // 2 + 1]
    remedy = "; for TransformerLens's names, set model_class_name=HookedTransformer or TransformerBridge"
    raise ConfigError(
        f"hook_name={cfg.hook_name!r} is not a module of {cfg.model_name}, which has {layers} layers, "
        f"{residual[0] if residual else names[0]} to {residual[-1] if residual else names[-1]}; "
        f"nearest: {', '.join(nearest)}{remedy if cfg.hook_name.startswith('blocks.') else ''}."
    )


def _check_context(cfg: TrainingConfig, longest: int | None) -> None:
    """Refuse contexts longer than a table of positions."""
    if longest is not None and cfg.context_size > longest:
        raise ConfigError(
            f"context_size={cfg.context_size}, but {cfg.model_name} knows {longest} positions; set context_size to that at most."
        )


def most_positions(model: nn.Module) -> int | None:
    """The longest context that a table of positions allows; None where there is none, as rotary ones go on for ever."""
    tables = [
        table.num_embeddings - getattr(table, "offset", 0)
        for name, table in model.named_modules()
        if isinstance(table, nn.Embedding) and POSITION_TABLE.search(name)
    ]
    if isinstance(model, HookedTransformer):  # whose masks and rotations are tables too
        tables.append(model.cfg.n_ctx)
    return min(tables, default=None)


@torch.no_grad()
def check_activations(model: HookedRootModule, cfg: TrainingConfig) -> None:
    """
    Refuse a hook that a loaded model lacks, or whose activations are of another width than the SAE reads; three tokens are run.

    Raises:
        ConfigError: naming the hook and the nearest ones that exist, or both widths.
    """
    hook, names = cfg.hook_name, list(model.hook_dict)
    if hook not in names:
        nearest = ", ".join(difflib.get_close_matches(hook, names, n=3)) or names[0]
        raise ConfigError(f"hook_name={hook!r} is no hook point of {cfg.model_name}; nearest: {nearest}.")
    _, cache = model.run_with_cache(
        torch.zeros(1, 3, dtype=torch.long, device=next(model.parameters()).device),
        names_filter=[hook],
        stop_at_layer=extract_stop_at_layer_from_tlens_hook_name(hook),
        prepend_bos=False,
        **cfg.model_kwargs,
    )
    if hook not in cache:
        raise ConfigError(
            f"hook_name={hook!r} is a hook point of {cfg.model_name}, but a forward pass does not reach it with the model's "
            "settings; name another one."
        )
    activations = cache[hook]
    if activations.shape[:2] != (1, 3):
        raise ConfigError(
            f"hook_name={hook!r} of {cfg.model_name} gives {list(activations.shape)} for one text of three tokens, and no row a "
            "token; take the part of a layer that it belongs to (its MLP or its attention), or the layer."
        )
    width = of_head(activations, cfg.hook_head_index, hook)[0, 0].numel()
    if width != cfg.sae.d_in:
        raise ConfigError(
            f"sae.d_in={cfg.sae.d_in} (by default the width of the residual stream), but the activations of {hook} in "
            f"{cfg.model_name} are {width} wide; set sae.d_in={width}."
        )


def require_tokenizer(cfg: TrainingConfig) -> None:
    """
    Refuse a model whose tokenizer cannot read the text of ``cfg``, before any weight is read.

    For a folder without tokenizer files, transformers makes an empty tokenizer: every document would have no tokens.

    Raises:
        ConfigError: the tokenizer is missing or cannot be read, or lacks the chat template that the text needs.
    """
    if cfg.model_class_name == "HookedTransformer":  # its models have names of their own, and known tokenizers
        return
    failed: Exception | None = None
    tokenizer: Any = None
    try:
        tokenizer = load_tokenizer(cfg.model_name, cfg.model_from_pretrained_kwargs)
    except Exception as error:  # each kind of tokenizer fails in its own way
        if not Path(cfg.model_name).exists():
            raise ConfigError(why_no_model(cfg.model_name, error)) from error
        failed = error
    tokens = [] if failed else tokenizer("a b", add_special_tokens=False).input_ids
    if failed or not (cfg.is_dataset_tokenized or set(tokens) - {tokenizer.unk_token_id}):
        detail = f" ({type(failed).__name__}: {str(failed).splitlines()[0]})" if str(failed or "") else ""
        raise ConfigError(
            f"model_name={cfg.model_name!r} has no tokenizer files that can be read{detail}; put those of the model that it was "
            "made from into its folder: AutoTokenizer.from_pretrained(BASE).save_pretrained(FOLDER)."
        ) from failed
    if cfg.use_chat_formatting:
        require_chat_template(tokenizer)


def load_language_model(cfg: TrainingConfig, hook_names: Sequence[str] | None = None) -> HookedRootModule:
    """
    The model of ``cfg`` on ``cfg.llm_device``, in evaluation mode, with these hooks or the one that the run reads.

    Of the type of its checkpoint, or that of ``model_from_pretrained_kwargs``; a checkpoint of 16 bits is widened to float32 on
    a CPU that is slow in these.

    Raises:
        ConfigError: it cannot be loaded, or see :func:`require_tokenizer`.
    """
    require_tokenizer(cfg)
    if cfg.model_class_name == "TransformerBridge":
        require_in_stream(cfg.hook_name)
    if cfg.model_class_name == "HookedTransformer" and Path(cfg.model_name).exists():
        raise ConfigError(
            f"model_name={cfg.model_name!r} is a local folder, and HookedTransformer knows models by name alone; give the name on the "
            "Hub. An SAE whose metadata have the weights folded or centred (fold_ln, center_writing_weights, ...) needs that class."
        )
    kwargs: dict[str, Any] = dict(cfg.model_from_pretrained_kwargs or {})
    try:
        if cfg.model_class_name == "TransformerBridge":
            model = load_bridge(cfg.model_name, str(cfg.llm_device), kwargs)
        elif cfg.model_class_name == "AutoModelForCausalLM":
            proxied = load_transformers_model(cfg.model_name, str(cfg.llm_device), kwargs)
            proxied.config.get_text_config().use_cache = False  # of a pass that nothing goes on from
            tokenizer = load_tokenizer(cfg.model_name, kwargs)
            model = HookedProxyLM(proxied, tokenizer, hook_names=list(hook_names or [cfg.hook_name]))
        else:
            model = load_model(
                cfg.model_class_name, cfg.model_name, device=cfg.llm_device, model_from_pretrained_kwargs=kwargs
            )
    except (ImportError, OSError, SafetensorError, TypeError, ValueError, *TRANSPORT_ERRORS) as error:
        raise ConfigError(why_no_model(cfg.model_name, error)) from error
    first = next(model.parameters(), None)
    if first is not None and first.device.type == "cpu":
        half, asked = first.dtype in (torch.float16, torch.bfloat16), kwargs.keys() & {"dtype", "torch_dtype"}
        # in autocast a layer norm of a CPU is given float32, which it does not take with float16 weights
        if (half and not asked and not autocast_pays(first.device)) or (
            cfg.autocast_lm and first.dtype == torch.float16
        ):
            model.float()
    return model.eval()


def _cap_attention(hf_model: Any, kwargs: dict[str, Any]) -> None:
    """Let a model whose attention logits are capped (Gemma 2) do so: before transformers 5.21 its default attention did not."""
    capped = getattr(hf_model.config.get_text_config(), "attn_logit_softcapping", None)
    if capped and "attn_implementation" not in kwargs:
        hf_model.set_attn_implementation("eager")


def load_bridge(model_name: str, device: str, kwargs: dict[str, Any]) -> Any:
    """A TransformerBridge of ``model_name``, a Hub id or a folder, on ``device``."""
    # loaded here, as a bridge by itself takes no options of from_pretrained, and makes the model float32
    hf_model, tokenizer = load_transformers_model(model_name, device, kwargs), load_tokenizer(model_name, kwargs)
    model_name = name_on_hub(model_name)
    return TransformerBridge.boot_transformers(model_name, hf_model=hf_model, tokenizer=tokenizer, device=device)


def load_transformers_model(model_name: str, device: str, kwargs: dict[str, Any]) -> Any:
    """The transformers model ``model_name`` on ``device``, or where a ``device_map`` of ``kwargs`` puts it."""
    hf_model: Any = AutoModelForCausalLM.from_pretrained(name_on_hub(model_name), **kwargs)
    _cap_attention(hf_model, kwargs)
    return hf_model.to(device) if kwargs.get("device_map") is None else hf_model


def load_tokenizer(model_name: str, loaded_with: Mapping[str, Any] | None) -> Any:
    """The tokenizer of a model that is loaded with these options, which may let it run code of its own."""
    options = {
        key: value for key, value in (loaded_with or {}).items() if key in ("trust_remote_code", "code_revision")
    }
    return AutoTokenizer.from_pretrained(name_on_hub(model_name), **options)
