"""The architecture and sizes of a language model, known without its weights."""

import os
from pathlib import Path
from typing import NamedTuple

from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, StrictDataclassError
from transformer_lens.loading_from_pretrained import get_official_model_name, get_pretrained_model_config
from transformers import AutoConfig, PreTrainedConfig

from sae_lens_abstopk.errors import ConfigError


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
        raise ConfigError(why_no_model(model_name, error)) from error


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
            raise ConfigError(why_no_model(model_name, error)) from error
        return ModelShape(config.n_layers, config.d_model)
    text = read_model_config(model_name).get_text_config()
    return ModelShape(int(text.num_hidden_layers), int(text.hidden_size))


def why_no_model(model_name: str, error: Exception) -> str:
    """A message for whoever named a model that could not be read: gated, unknown, or out of reach."""
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
