"""The language model of a run: looked at before its weights are read, then loaded the way the config asks."""

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, StrictDataclassError
from sae_lens.load_model import load_model
from sae_lens.util import extract_stop_at_layer_from_tlens_hook_name
from safetensors import SafetensorError
from transformer_lens.HookedRootModule import HookedRootModule
from transformer_lens.loading_from_pretrained import get_official_model_name, get_pretrained_model_config
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig

from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.training.config import TrainingConfig

# where the residual stream after a layer is called what, to help whoever guessed wrong
LAYER_MODULE = re.compile(r"(^|\.)(layers|h|blocks)\.\d+$")


def name_on_hub(model_name: str) -> str:
    """What the Hub calls a model that TransformerLens, and metadata of SAELens's releases, may have a short name for."""
    if "/" in model_name or Path(model_name).exists():
        return model_name
    try:
        return get_official_model_name(model_name)
    except ValueError:  # not one of TransformerLens's
        return model_name


def read_model_config(model_name: str) -> PreTrainedConfig:
    """
    The architecture and sizes of a model, without its weights.

    Raises:
        ConfigError: the model is missing, gated without a token, or the Hub cannot be reached.
    """
    folder = Path(model_name)
    if folder.exists() and not (folder / "config.json").is_file():
        raise ConfigError(
            f"model_name={model_name!r} is a local path without a config.json; save the model there first."
        )
    try:
        return AutoConfig.from_pretrained(name_on_hub(model_name))
    except StrictDataclassError as error:
        why = str(error.__cause__ or error).strip()
        raise ConfigError(f"model_name={model_name!r}: its config.json contradicts itself: {why}") from error
    except (GatedRepoError, RepositoryNotFoundError, HFValidationError, OSError, ValueError) as error:
        raise ConfigError(_why_no_model(model_name, error)) from error


class ModelShape(NamedTuple):
    """Sizes of a model, known without its weights."""

    layers: int
    width: int
    """Of the residual stream."""


def model_shape(model_name: str, model_class_name: str) -> ModelShape:
    """Sizes of a model from its config; HookedTransformer has names of its own, which are understood too."""
    if model_class_name == "HookedTransformer":
        try:
            config = get_pretrained_model_config(model_name)
        except (OSError, ValueError) as error:
            raise ConfigError(_why_no_model(model_name, error)) from error
        return ModelShape(config.n_layers, config.d_model)
    text = read_model_config(model_name).get_text_config()
    return ModelShape(int(text.num_hidden_layers), int(text.hidden_size))


def check_hook(cfg: TrainingConfig) -> None:
    """
    Refuse a hook that the model lacks or an SAE of another width, before any weight is read.

    Raises:
        ConfigError: naming the hook and the nearest ones that exist, or both widths.
    """
    layers, width = model_shape(cfg.model_name, cfg.model_class_name)
    if cfg.model_class_name == "AutoModelForCausalLM":
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(read_model_config(cfg.model_name))
        _check_name(cfg, [name for name, _ in model.named_modules() if name], layers)
        reads_residual = LAYER_MODULE.search(cfg.hook_name)
    else:
        layer = re.search(r"(^|\.)blocks\.(\d+)\.", cfg.hook_name)
        if layer is None or int(layer[2]) >= layers:
            raise ConfigError(
                f"hook_name={cfg.hook_name!r} is not in {cfg.model_name}, which has layers 0 to {layers - 1}; "
                f"{cfg.model_class_name} calls the residual stream after one 'blocks.{layers // 2}.hook_resid_post'."
            )
        reads_residual = "hook_resid" in cfg.hook_name
    if reads_residual and cfg.sae.d_in != width:
        raise ConfigError(
            f"sae.d_in={cfg.sae.d_in} but {cfg.model_name} is {width} wide; set sae.d_in={width} or leave it out."
        )


def _check_name(cfg: TrainingConfig, names: list[str], layers: int) -> None:
    if cfg.hook_name in names:
        return
    residual = [name for name in names if LAYER_MODULE.search(name)]
    asked = re.search(r"\.(\d+)(?:\.|$)", cfg.hook_name)
    if asked and int(asked[1]) >= layers:
        nearest = residual[-1:]
    else:
        nearest = difflib.get_close_matches(cfg.hook_name, names, n=3) or residual[layers // 2 : layers // 2 + 1]
    raise ConfigError(
        f"hook_name={cfg.hook_name!r} is not a module of {cfg.model_name}, which has {layers} layers, "
        f"{residual[0] if residual else names[0]} to {residual[-1] if residual else names[-1]}; "
        f"nearest: {', '.join(nearest)}."
    )


@torch.no_grad()
def check_activations(model: HookedRootModule, cfg: TrainingConfig) -> None:
    """
    Refuse a hook that a loaded model lacks, or whose activations are of another width than the SAE reads; two tokens are run.

    Raises:
        ConfigError: naming the hook and the nearest ones that exist, or both widths.
    """
    hook, names = cfg.hook_name, list(model.hook_dict)
    if hook not in names:
        nearest = ", ".join(difflib.get_close_matches(hook, names, n=3)) or names[0]
        raise ConfigError(f"hook_name={hook!r} is no hook point of {cfg.model_name}; nearest: {nearest}.")
    _, cache = model.run_with_cache(
        torch.zeros(1, 2, dtype=torch.long, device=next(model.parameters()).device),
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
    width = (activations if cfg.hook_head_index is None else activations[:, :, cfg.hook_head_index])[0, 0].numel()
    if width != cfg.sae.d_in:
        raise ConfigError(
            f"sae.d_in={cfg.sae.d_in} (by default the width of the residual stream), but the activations of {hook} in "
            f"{cfg.model_name} are {width} wide; set sae.d_in={width}."
        )


def load_language_model(cfg: TrainingConfig, hook_names: Sequence[str] | None = None) -> HookedRootModule:
    """The model of ``cfg`` on ``cfg.llm_device``, in evaluation mode, with these hooks or the one that the run reads."""
    kwargs: dict[str, Any] = dict(cfg.model_from_pretrained_kwargs or {})
    try:
        if cfg.model_class_name == "TransformerBridge":
            model = load_bridge(cfg.model_name, str(cfg.llm_device), kwargs)
        else:
            hooked_transformer = cfg.model_class_name == "HookedTransformer"  # which has names of its own
            model = load_model(
                cfg.model_class_name,
                cfg.model_name if hooked_transformer else name_on_hub(cfg.model_name),
                device=cfg.llm_device,
                model_from_pretrained_kwargs=kwargs,
                hook_names=list(hook_names or [cfg.hook_name]),
            )
    except (GatedRepoError, RepositoryNotFoundError, OSError, SafetensorError, ValueError) as error:
        raise ConfigError(_why_no_model(cfg.model_name, error)) from error
    return model.eval()


def load_bridge(model_name: str, device: str, kwargs: dict[str, Any]) -> Any:
    from transformer_lens.model_bridge import TransformerBridge

    model_name = name_on_hub(model_name)
    # A bridge finds a local folder only through a model that is loaded already.
    hf_model: Any = AutoModelForCausalLM.from_pretrained(model_name, **kwargs)
    tokenizer = AutoTokenizer.from_pretrained(model_name)
    return TransformerBridge.boot_transformers(
        model_name, hf_model=hf_model.to(device), tokenizer=tokenizer, device=device
    )


def _why_no_model(model_name: str, error: Exception) -> str:
    text = str(error)
    if isinstance(error, GatedRepoError) or "gated" in text.lower() or "401" in text:
        state = "is set but has no access" if os.environ.get("HF_TOKEN") else "is not set"
        return (
            f"model_name={model_name!r} is gated on the Hugging Face Hub, and HF_TOKEN {state}: accept the licence on "
            "the model's page, then set HF_TOKEN to a token that may read it (or run `hf auth login`)."
        )
    if isinstance(error, RepositoryNotFoundError | HFValidationError):
        return (
            f"model_name={model_name!r} is neither a local folder nor a model on the Hugging Face Hub that you can see; "
            "check the spelling, or set HF_TOKEN if it is private."
        )
    return (
        f"model_name={model_name!r} could not be loaded from a local folder, the cache or the Hugging Face Hub "
        f"({type(error).__name__}: {text.splitlines()[0] if text else 'no detail'}); check the name and the connection, "
        "or give the path of a local folder."
    )


def casts_shared() -> torch.autocast:
    """
    A context, or decorator, in which the weights of a model that runs in autocast are cast once, not at every pass.

    An autocast context forgets what it cast when the outermost one ends. Weights must not change inside this one.
    """
    return torch.autocast("cpu", enabled=False)  # the memory of casts is one for all kinds of devices
