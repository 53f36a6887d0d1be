"""Checks of a hook: before any weight of the model is read, and on the loaded model."""

import re

import torch
from sae_lens.util import extract_stop_at_layer_from_tlens_hook_name
from torch import nn
from transformer_lens import HookedTransformer
from transformer_lens.HookedRootModule import HookedRootModule
from transformers import AutoModelForCausalLM

from sae_lens_abstopk.model.hook_places import LAYER_MODULE, OTHER_TOWERS, layer_names, missing_hook
from sae_lens_abstopk.model.model_passes import select_head
from sae_lens_abstopk.model.model_shape import model_errors, model_shape, read_model_config
from sae_lens_abstopk.model.model_spec import ModelSpec
from sae_lens_abstopk.system.errors import ConfigError, require_one, require_range, require_same_width

# position embeddings in GPT-2, GPT-Neo, OPT and similar models
POSITION_TABLE = re.compile(r"(^|\.)(wpe|embed_positions)$")


def check_hook(spec: ModelSpec, *, d_in: int, context_size: int) -> None:
    """Raise a ``ConfigError`` if a model, before its weights are read, lacks the hook, its width or the context."""
    name, hook, kind = spec.model_name, spec.hook_name, spec.model_class_name
    layers, width, longest = model_shape(name, kind, spec.load_options)
    names = residual = [f"blocks.{layer}.hook_resid_post" for layer in range(layers)]
    layer = re.search(r"(^|\.)blocks\.(\d+)\.", hook)
    is_there, reads_residual, remedy = layer is not None and int(layer[2]) < layers, "hook_resid" in hook, ""
    if kind != "HookedTransformer":
        config, options = read_model_config(name, spec.load_options), spec.load_options
        own_code = {key: options[key] for key in ("trust_remote_code", "code_revision") if key in options}
        with model_errors(name), torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, **own_code)
        longest = most_positions(model)
        if kind == "AutoModelForCausalLM":
            names = [each for each, _ in model.named_modules() if each and not OTHER_TOWERS.search(each)]
            residual = layer_names(model)
            is_there, reads_residual = hook in names, bool(LAYER_MODULE.search(hook))
            if hook.startswith("blocks."):
                remedy = "; for TransformerLens's names, set model_class_name=HookedTransformer or TransformerBridge"
    require_range("context_size", context_size, at_most=longest, remedy=f", the positions that {name} knows")
    if not is_there:
        raise missing_hook(hook, f"{name}, read as {kind}", names, residual, remedy)
    if reads_residual:
        require_same_width(name, width, "the SAE", d_in, remedy=f"set sae.d_in={width}, or leave it out")


def chosen_hook(model_name: str, *, layer: int | None = None, hook_name: str | None = None) -> str:
    """
    Return the hook of a transformers model that is named, or the output of a layer, by default the middle one.

    Raises:
        ConfigError: before weights are read, if both are given or the model lacks the hook or layer.
    """
    require_one({"layer": layer, "hook_name": hook_name}, or_none=True)
    config = read_model_config(model_name)
    with model_errors(model_name), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    names, layers = [name for name, _ in model.named_modules() if name], layer_names(model)
    if hook_name is None:
        layer = len(layers) // 2 if layer is None else layer
        require_range("layer", layer, at_least=0, below=len(layers), remedy=f", the layers of {model_name}")
        return layers[layer]
    if hook_name not in names:
        raise missing_hook(hook_name, model_name, names, layers)
    return hook_name


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
    """Run three tokens through a model; raise a :class:`ConfigError` if the hook is missing or not ``d_in`` wide."""
    hook, names = spec.hook_name, list(model.hook_dict)
    where, cache = f"hook_name={hook!r} of {spec.model_name}", {}
    if hook in names:
        _, cache = model.run_with_cache(
            torch.zeros(1, 3, dtype=torch.long, device=next(model.parameters()).device),
            names_filter=[hook],
            stop_at_layer=extract_stop_at_layer_from_tlens_hook_name(hook),
            prepend_bos=False,
            **spec.model_kwargs,
        )
    if hook not in cache:
        raise missing_hook(hook, f"{spec.model_name}, or a forward pass does not reach it", names, [])
    activations = cache[hook]
    if activations.shape[:2] != (1, 3):
        raise ConfigError(
            f"{where} gives {list(activations.shape)} for one text of three tokens, not a row for each token; take the "
            "part of a layer that it belongs to (its MLP or its attention), or the layer."
        )
    width = select_head(activations, spec.hook_head_index, hook)[0, 0].numel()
    remedy = f"set sae.d_in={width}, which is by default the width of the residual stream"
    require_same_width(where, width, "the SAE", d_in, remedy=remedy)
