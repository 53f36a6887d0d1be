"""Checks of a hook: before any weight of the model is read, and on the loaded model."""

import difflib
import re
from typing import Any

import torch
from sae_lens.util import extract_layer_from_tlens_hook_name, extract_stop_at_layer_from_tlens_hook_name
from torch import nn
from transformer_lens import HookedTransformer
from transformer_lens.HookedRootModule import HookedRootModule
from transformers import AutoModelForCausalLM

from sae_lens_abstopk.model.hook_places import LAYER_MODULE, OTHER_TOWERS, layer_names
from sae_lens_abstopk.model.model_passes import select_head
from sae_lens_abstopk.model.model_shape import model_shape, read_model_config, why_no_model
from sae_lens_abstopk.model.model_spec import ModelSpec
from sae_lens_abstopk.system.errors import ConfigError

# position embeddings in GPT-2, GPT-Neo, OPT and similar models
POSITION_TABLE = re.compile(r"(^|\.)(wpe|embed_positions)$")


def check_hook(spec: ModelSpec, *, d_in: int, context_size: int) -> None:
    """
    Raise if the model lacks the hook or its width is not ``d_in``, before any weight is read.

    Raises:
        ConfigError: naming the hook and the nearest existing ones, or both widths; or the model is unavailable, is not
            a causal language model, or has fewer positions than ``context_size``.
    """
    layers, width, longest = model_shape(spec.model_name, spec.model_class_name, spec.load_options)
    model = None if spec.model_class_name == "HookedTransformer" else _model_without_weights(spec)
    longest = longest if model is None else most_positions(model)
    if longest is not None and context_size > longest:
        raise ConfigError(
            f"context_size={context_size}, but {spec.model_name} knows {longest} positions; set context_size to that "
            "at most."
        )
    hook = spec.hook_name
    if model is not None and spec.model_class_name == "AutoModelForCausalLM":
        _require_module(spec, model, layers)
        reads_residual = LAYER_MODULE.search(hook)
    else:
        layer = re.search(r"(^|\.)blocks\.(\d+)\.", hook)
        if layer is None or int(layer[2]) >= layers:
            raise ConfigError(
                f"hook_name={hook!r} is not a hook of a block of {spec.model_name}, which has layers 0 to "
                f"{layers - 1}; {spec.model_class_name} calls the residual stream after one "
                f"'blocks.{layers // 2}.hook_resid_post'."
            )
        reads_residual = "hook_resid" in hook
    if reads_residual and d_in != width:
        raise ConfigError(
            f"sae.d_in={d_in} but {spec.model_name} is {width} wide; set sae.d_in={width} or leave it out."
        )


def most_positions(model: nn.Module) -> int | None:
    """Return the longest context that the model's position tables allow; None without tables (rotary positions)."""
    tables = [
        table.num_embeddings - getattr(table, "offset", 0)
        for name, table in model.named_modules()
        if isinstance(table, nn.Embedding) and POSITION_TABLE.search(name)
    ]
    if isinstance(model, HookedTransformer):  # its masks and rotations are tables too
        tables.append(model.cfg.n_ctx)
    return min(tables, default=None)


@torch.no_grad()
def check_activations(model: HookedRootModule, spec: ModelSpec, *, d_in: int) -> None:
    """
    Run three tokens through a loaded model; raise if the hook is missing or its width is not ``d_in``.

    Raises:
        ConfigError: naming the hook and the nearest existing ones, or both widths.
    """
    hook, names = spec.hook_name, list(model.hook_dict)
    where = f"hook_name={hook!r} of {spec.model_name}"
    if hook not in names:
        nearest = ", ".join(difflib.get_close_matches(hook, names, n=3)) or names[0]
        raise ConfigError(f"{where} is not a hook point; nearest: {nearest}.")
    _, cache = model.run_with_cache(
        torch.zeros(1, 3, dtype=torch.long, device=next(model.parameters()).device),
        names_filter=[hook],
        stop_at_layer=extract_stop_at_layer_from_tlens_hook_name(hook),
        prepend_bos=False,
        **spec.model_kwargs,
    )
    if hook not in cache:
        raise ConfigError(f"{where}: a forward pass does not reach it with the model's settings; name another one.")
    activations = cache[hook]
    if activations.shape[:2] != (1, 3):
        raise ConfigError(
            f"{where} gives {list(activations.shape)} for one text of three tokens, not a row for each token; take the "
            "part of a layer that it belongs to (its MLP or its attention), or the layer."
        )
    width = select_head(activations, spec.hook_head_index, hook)[0, 0].numel()
    if width != d_in:
        raise ConfigError(
            f"sae.d_in={d_in} (by default the width of the residual stream), but {where} is {width} wide; "
            f"set sae.d_in={width}."
        )


def _model_without_weights(spec: ModelSpec) -> nn.Module:
    config = read_model_config(spec.model_name, spec.load_options)
    own_code = {
        key: spec.load_options[key] for key in ("trust_remote_code", "code_revision") if key in spec.load_options
    }
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, **own_code)
    except ValueError as error:
        if "Unrecognized configuration class" not in str(error):
            raise ConfigError(why_no_model(spec.model_name, error)) from error
        raise ConfigError(
            f"model_name={spec.model_name!r} is of the type {config.model_type}, for which transformers has no causal "
            "language model; name its text model, or another model that is one."
        ) from error


def _require_module(spec: ModelSpec, model: Any, layers: int) -> None:
    names = [name for name, _ in model.named_modules() if name and not OTHER_TOWERS.search(name)]
    hook = spec.hook_name
    if hook in names:
        return
    residual = layer_names(model)
    layer = extract_layer_from_tlens_hook_name(hook)
    nearest = difflib.get_close_matches(hook, names, n=3) or residual[layers // 2 : layers // 2 + 1]
    if layer is not None and layer >= layers:
        nearest = residual[-1:]
    classes = "; for TransformerLens's names, set model_class_name=HookedTransformer or TransformerBridge"
    raise ConfigError(
        f"hook_name={hook!r} is not a module of {spec.model_name}, which has {layers} layers, "
        f"{(residual or names)[0]} to {(residual or names)[-1]}; "
        f"nearest: {', '.join(nearest)}{classes if hook.startswith('blocks.') else ''}."
    )
