"""The architecture and sizes of a language model, known without its weights."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, StrictDataclassError
from transformer_lens.loading_from_pretrained import get_official_model_name, get_pretrained_model_config
from transformers import AutoConfig, PreTrainedConfig

from sae_lens_abstopk.system.errors import TRANSPORT_ERRORS, ConfigError, caused_by

# of what a model is loaded with, the part that says where its config is and whether code in it may run
OF_THE_CONFIG = (
    "trust_remote_code",
    "code_revision",
    "revision",
    "subfolder",
    "cache_dir",
    "token",
    "local_files_only",
)


def name_on_hub(model_name: str) -> str:
    """What the Hub calls a model that TransformerLens, and metadata of SAELens's releases, may have a short name for."""
    if "/" in model_name or Path(model_name).exists():
        return model_name
    try:
        return get_official_model_name(model_name)
    except ValueError:  # not one of TransformerLens's
        return model_name


def read_model_config(model_name: str, loaded_with: Mapping[str, Any] | None = None) -> PreTrainedConfig:
    """
    The architecture and sizes of a model, without its weights.

    Args:
        model_name: Hub id or folder.
        loaded_with: Options that the model is to be loaded with (``model_from_pretrained_kwargs``).

    Raises:
        ConfigError: the model is missing, gated without a token, or the Hub cannot be reached.
    """
    options = {key: value for key, value in (loaded_with or {}).items() if key in OF_THE_CONFIG}
    folder = Path(model_name, options.get("subfolder") or "")
    if folder.exists() and not (folder / "config.json").is_file():
        raise ConfigError(
            f"model_name={model_name!r} is a local path without a config.json; save the model there first."
        )
    try:
        return AutoConfig.from_pretrained(name_on_hub(model_name), **options)
    except StrictDataclassError as error:
        why = str(error.__cause__ or error).strip()
        raise ConfigError(f"model_name={model_name!r}: its config.json contradicts itself: {why}") from error
    except (OSError, ValueError, *TRANSPORT_ERRORS) as error:
        raise ConfigError(why_no_model(model_name, error)) from error


class ModelShape(NamedTuple):
    """Sizes of a model, known without its weights."""

    layers: int
    width: int
    """Of the residual stream."""
    longest: int | None = None
    """Tokens that a HookedTransformer has tables for; of models of transformers only their modules tell."""


def model_shape(model_name: str, model_class_name: str, loaded_with: Mapping[str, Any] | None = None) -> ModelShape:
    """Sizes of a model from its config; HookedTransformer has names of its own, which are understood too."""
    if model_class_name == "HookedTransformer":
        try:
            config = get_pretrained_model_config(model_name)
        except (OSError, ValueError, *TRANSPORT_ERRORS) as error:
            raise ConfigError(why_no_model(model_name, error)) from error
        return ModelShape(config.n_layers, config.d_model, (loaded_with or {}).get("n_ctx") or config.n_ctx)
    text = read_model_config(model_name, loaded_with).get_text_config()
    layers, width = getattr(text, "num_hidden_layers", None), getattr(text, "hidden_size", None)
    if not isinstance(layers, int) or not isinstance(width, int):
        raise ConfigError(
            f"model_name={model_name!r} has a config of a kind of its own ({type(text).__name__}) without num_hidden_layers and "
            "hidden_size, so it cannot be read here."
        )
    return ModelShape(layers, width)


def why_no_model(model_name: str, error: Exception) -> str:
    """A message for whoever named a model that could not be read: gated, unknown, with code of its own, or out of reach."""
    text = str(error)
    if caused_by(error, GatedRepoError):
        state = "is set but has no access" if os.environ.get("HF_TOKEN") else "is not set"
        return (
            f"model_name={model_name!r} is gated on the Hugging Face Hub, and HF_TOKEN {state}: accept the licence on "
            "the model's page, then set HF_TOKEN to a token that may read it (or run `hf auth login`)."
        )
    if caused_by(error, RepositoryNotFoundError) or caused_by(error, HFValidationError):
        return (
            f"model_name={model_name!r} is neither a local folder nor a model on the Hugging Face Hub that you can see; "
            "check the spelling, or set HF_TOKEN if it is private."
        )
    if "trust_remote_code" in text:  # what transformers asks for
        return (
            f"model_name={model_name!r} comes with code of its own, which is not run; where you trust it, set "
            "model_from_pretrained_kwargs={trust_remote_code: true}."
        )
    return (
        f"model_name={model_name!r} could not be loaded from a local folder, the cache or the Hugging Face Hub "
        f"({type(error).__name__}: {text.splitlines()[0][:200] if text else 'no detail'}); check the name and the connection, "
        "or give the path of a local folder."
    )
