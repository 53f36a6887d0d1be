"""Find the module of a hook in a transformers model, SAELens's proxy of one, HookedTransformer or a bridge."""

import difflib
import re
from typing import Any, NamedTuple

from sae_lens.load_model import HookedProxyLM
from torch import nn
from transformer_lens import HookedTransformer
from transformer_lens.model_bridge import TransformerBridge

from sae_lens_abstopk.system.errors import ConfigError, require_given

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
    remedy = "the SAE's metadata do not name it: give hook_name='model.layers.15', say"
    hook_name = require_given("the hook", hook_name, remedy)
    hf, where = transformers_model(model), f"this {type(model).__name__}"
    _require_not_compiled(model, model if hf is None else hf)
    if isinstance(model, TransformerBridge | HookedTransformer):
        if isinstance(model, TransformerBridge):
            require_in_stream(hook_name)
        name = transformer_lens_name(hook_name) or hook_name
        layers, remedy = [f"blocks.{layer}.hook_resid_post" for layer in range(model.cfg.n_layers)], ""
        names, inner = list(model.hook_dict), dict(model.named_modules())
        # a HookedSAETransformer with an attached SAE has the SAE, not a hook, under the hook's name
        modules = model.hook_dict if isinstance(model, TransformerBridge) else inner
        block = re.match(r"blocks\.\d+\b", name)
        if hf is None and block is None:
            where = f"a block of {where}"
        entered = _base_model(hf) if hf is not None else inner.get(block[0]) if block else None
    else:
        assert hf is not None
        modules = inner = {name: module for name, module in hf.named_modules() if name}
        layers, names = layer_names(hf), list(modules)
        remedy = (
            "; for other hooks of TransformerLens wrap the model: TransformerBridge.boot_transformers(NAME, "
            "hf_model=model, tokenizer=tokenizer)"
        )
        name = hook_name
        if RESIDUAL.fullmatch(hook_name):
            layer = residual_layer(hook_name)
            name = layers[layer] if layer is not None and 0 <= layer < len(layers) else ""
        if name and name not in modules and hasattr(hf, "get_base_model"):
            wrapped = [each for each in modules if each.endswith(f".{name}") and not OTHER_TOWERS.search(each)]
            name = wrapped[0] if len(wrapped) == 1 else name
        entered = _base_model(hf)
    if name not in modules or entered is None:
        raise missing_hook(hook_name, where, names, layers, remedy if "hook_" in hook_name else "")
    _require_not_compiled(*(module for each, module in inner.items() if f"{name}.".startswith(f"{each}.")))
    return HookPlace(name, modules[name], entered)


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
    """Return TransformerLens's name of the output of a transformers layer or, for bridges, of its parts; else None."""
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


def require_in_stream(hook_name: str) -> None:
    """Raise a :class:`ConfigError` for ``hook_resid_mid``, which a bridge reads at the input of a norm."""
    if hook_name.endswith("hook_resid_mid"):
        raise ConfigError(
            f"hook_name={hook_name!r}: a TransformerBridge reads it at the input of a norm, so an edit there reaches "
            "only the MLP; take hook_resid_pre or hook_resid_post, or a HookedTransformer."
        )


def missing_hook(hook_name: str, where: str, names: list[str], layers: list[str], remedy: str = "") -> ConfigError:
    """Return the error for a hook that is not among ``names``; ``layers`` are hooks of the residual stream."""
    near = difflib.get_close_matches(hook_name, names)
    span = f"; the residual stream is at {layers[0]} to {layers[-1]}" if layers else ""
    nearest = f"; nearest: {', '.join(near)}" if near else ""
    return ConfigError(f"hook_name={hook_name!r} is not in {where}{span}{nearest}{remedy}.")


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


def _require_not_compiled(*modules: nn.Module) -> None:
    for module in modules:
        compiled = hasattr(module, "_orig_mod") or module._compiled_call_impl is not None
        by_forward = hasattr(module.forward, "_torchdynamo_orig_callable")
        if compiled or (by_forward and not hasattr(module.forward, "_torchdynamo_disable")):
            raise ConfigError(
                f"this {type(module).__name__} is compiled, and compiled code does not call hooks that are added "
                "later; give the model as it was before torch.compile."
            )
