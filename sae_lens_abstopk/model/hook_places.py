"""Find the module of a hook in a transformers model, SAELens's proxy of one, HookedTransformer or a bridge."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from sae_lens.load_model import HookedProxyLM
from torch import nn
from transformer_lens import HookedTransformer
from transformer_lens.model_bridge import TransformerBridge

from sae_lens_abstopk.system.errors import ConfigError

# hook names of the residual stream, by model family
LAYER_MODULE = re.compile(r"(^|\.)(layers|h|blocks)\.\d+$")
RESIDUAL = re.compile(r"blocks\.(\d+)\.hook_resid_(pre|post)")
# the two parts of a layer in transformers, and the names of their outputs in TransformerBridge
LAYER_PART = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)\.(?:(mlp)|self_attn|attn|attention)$")
# parts of a model whose layers do not read text
OTHER_TOWERS = re.compile("vision|visual|audio")


class HookPlace(NamedTuple):
    """The module whose output is the activation of a hook, and the module that receives the tokens."""

    name: str
    """The model's own name of the hook."""
    module: nn.Module
    entered: nn.Module
    """Module called once in a forward pass, before ``module``: the transformers base model or TransformerLens block."""


def transformers_model(model: nn.Module) -> nn.Module | None:
    """Return the transformers model inside ``model``; None for a HookedTransformer, which has its own weights."""
    if isinstance(model, HookedProxyLM):
        return model.model
    if isinstance(model, TransformerBridge):
        return model.original_model
    return None if isinstance(model, HookedTransformer) else model


def find_place(model: nn.Module, hook_name: str | None) -> HookPlace:
    """
    Find ``hook_name`` in ``model``.

    ``model.layers.15`` (transformers: the output of a layer), ``blocks.15.hook_resid_post`` (TransformerLens) and
    ``blocks.16.hook_resid_pre`` are the same activation, and every kind of model accepts all three. A bridge also
    accepts transformers' names of the two parts of a layer (``model.layers.15.mlp``). Other hooks have only their own
    name. A model with adapters, such as PEFT's, also accepts names of the inner model.

    Raises:
        ConfigError: the model lacks the hook (the message names the nearest), an edit there would not reach the
            residual stream (:func:`require_in_stream`), or the module is compiled and would not call a later hook.
    """
    if not hook_name:
        raise ConfigError("the metadata of the SAE name no hook; give hook_name, such as hook_name='model.layers.15'.")
    hf = transformers_model(model)
    _require_not_compiled(each for each in (model, hf) if each is not None)
    if isinstance(model, TransformerBridge | HookedTransformer):
        return _in_transformer_lens(model, hook_name, hf)
    assert hf is not None
    layers = layer_names(hf)
    name = hook_name
    if RESIDUAL.fullmatch(hook_name):
        layer = residual_layer(hook_name)
        name = layers[layer] if layer is not None and 0 <= layer < len(layers) else ""
    modules = {name: module for name, module in hf.named_modules() if name}
    if name and name not in modules and hasattr(hf, "get_base_model"):
        wrapped = [each for each in modules if each.endswith(f".{name}") and not OTHER_TOWERS.search(each)]
        name = wrapped[0] if len(wrapped) == 1 else name
    if name not in modules:
        raise ConfigError(_missing(model, hook_name, list(modules), layers))
    _require_not_compiled(_enclosing_modules(name, modules))
    return HookPlace(name, modules[name], _base_model(hf))


def residual_layer(hook_name: str) -> int | None:
    """Return the layer whose output a hook reads, -1 for the input of the first; None for other activations."""
    if residual := RESIDUAL.fullmatch(hook_name):
        # the input of a layer is the output of the one below it
        return int(residual[1]) - (residual[2] == "pre")
    # in TransformerLens, blocks.3 is not a hook
    if LAYER_MODULE.search(hook_name) and not hook_name.startswith("blocks.") and not OTHER_TOWERS.search(hook_name):
        return int(hook_name.rpartition(".")[2])
    return None


def transformer_lens_name(hook_name: str) -> str | None:
    """
    Return TransformerLens's name of a transformers hook: the output of a layer or of a part of one.

    None for other names. Only a TransformerBridge has the parts.
    """
    part = LAYER_PART.search(hook_name)
    if part and not OTHER_TOWERS.search(hook_name):
        return f"blocks.{part[1]}.{part[2] or 'attn'}.hook_out"
    layer = None if hook_name.startswith("blocks.") else residual_layer(hook_name)
    return None if layer is None else f"blocks.{layer}.hook_resid_post"


def layer_names(hf: nn.Module) -> list[str]:
    """Return the names of the decoder layers of a transformers model, bottom up, without a vision tower's."""
    stacks: dict[str, list[str]] = {}
    for name, _ in hf.named_modules():
        if LAYER_MODULE.search(name) and not OTHER_TOWERS.search(name):
            stacks.setdefault(name.rpartition(".")[0], []).append(name)
    return max(stacks.values(), key=len, default=[])


def _in_transformer_lens(
    model: TransformerBridge | HookedTransformer, hook_name: str, hf: nn.Module | None
) -> HookPlace:
    name = transformer_lens_name(hook_name) or hook_name
    if isinstance(model, TransformerBridge):
        require_in_stream(hook_name)
    known = list(model.hook_dict)
    residual = [f"blocks.{layer}.hook_resid_post" for layer in range(model.cfg.n_layers)]
    # a HookedSAETransformer with an attached SAE has the SAE, not a hook, under the hook's name
    modules = model.hook_dict if isinstance(model, TransformerBridge) else dict(model.named_modules())
    if name not in modules:
        raise ConfigError(_missing(model, hook_name, known, residual))
    _require_not_compiled(_enclosing_modules(name, dict(model.named_modules())))
    if hf is not None:
        return HookPlace(name, modules[name], _base_model(hf))
    block = re.match(r"blocks\.\d+\b", name)
    if block is None:
        raise ConfigError(
            f"hook_name={hook_name!r}: in a HookedTransformer only hooks of its blocks can be steered, "
            f"{residual[0]} to {residual[-1]} for example."
        )
    return HookPlace(name, modules[name], dict(model.named_modules())[block[0]])


def require_in_stream(hook_name: str) -> None:
    """
    Raise for a hook of a TransformerBridge that reads a copy of the residual stream, where an edit has no effect.

    Raises:
        ConfigError: it is ``hook_resid_mid``, which a bridge puts at the input of a norm.
    """
    if hook_name.endswith("hook_resid_mid"):
        raise ConfigError(
            f"hook_name={hook_name!r}: a TransformerBridge reads it at the input of a norm, so an edit there reaches "
            "only the MLP; take hook_resid_pre or hook_resid_post, or a HookedTransformer."
        )


def without_adapter(hf: nn.Module) -> nn.Module:
    """Return the transformers model inside a PEFT adapter, or ``hf`` itself."""
    unwrapped: Any = getattr(hf, "get_base_model", None)
    return hf if unwrapped is None else unwrapped()


def _base_model(hf: nn.Module) -> nn.Module:
    own: Any = without_adapter(hf)  # PEFT's base_model is the adapter, which generate() bypasses
    base = getattr(own, "base_model", own)
    if isinstance(inner := getattr(base, "decoder", None), nn.Module) and not own.config.is_encoder_decoder:
        base = inner  # OPT's layers run without a call of the model around them
    return base if isinstance(base, nn.Module) else own


def _enclosing_modules(name: str, modules: Mapping[str, nn.Module]) -> Iterator[nn.Module]:
    """Yield a module and the modules that contain it."""
    return (module for each, module in modules.items() if f"{name}.".startswith(f"{each}."))


def _require_not_compiled(modules: Iterable[nn.Module]) -> None:
    for module in modules:
        compiled = hasattr(module, "_orig_mod") or module._compiled_call_impl is not None
        by_forward = hasattr(module.forward, "_torchdynamo_orig_callable")
        if compiled or (by_forward and not hasattr(module.forward, "_torchdynamo_disable")):
            raise ConfigError(
                f"this {type(module).__name__} is compiled, and compiled code does not call hooks that are added "
                "later; give the model as it was before torch.compile."
            )


def _missing(model: nn.Module, hook_name: str, known: list[str], residual: list[str]) -> str:
    near = difflib.get_close_matches(hook_name, known, n=3)
    span = f"; the residual stream is at {residual[0]} to {residual[-1]}" if residual else ""
    nearest = f"; nearest: {', '.join(near)}" if near else ""
    remedy = ""
    if "hook_" in hook_name and not isinstance(model, TransformerBridge | HookedTransformer):
        remedy = (
            "; for other hooks of TransformerLens wrap the model: TransformerBridge.boot_transformers(NAME, "
            "hf_model=model, tokenizer=tokenizer)"
        )
    return f"hook_name={hook_name!r} is not in this {type(model).__name__}{span}{nearest}{remedy}."
