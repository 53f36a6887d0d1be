"""The architecture and sizes of a language model, read from its config only."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, StrictDataclassError
from transformer_lens.loading_from_pretrained import get_official_model_name, get_pretrained_model_config
from transformers import AutoConfig, PreTrainedConfig

from sae_lens_abstopk.model.quickstart_model import FOLDER as QUICKSTART_MODEL
from sae_lens_abstopk.system.errors import TRANSPORT_ERRORS, ConfigError, caused_by
from sae_lens_abstopk.system.files import cache_folder, sampled_digest

CONFIG_OPTIONS = (
    *("trust_remote_code", "code_revision", "revision", "subfolder"),
    *("cache_dir", "token", "local_files_only"),
)
"""Loading options that apply to a model's config too."""
WEIGHTS = (".safetensors", ".bin", ".gguf")


class ModelShape(NamedTuple):
    """Sizes of a model."""

    layers: int
    width: int
    """Width of the residual stream."""
    longest: int | None = None
    """Context length of a HookedTransformer; None for other models."""


def name_on_hub(model_name: str) -> str:
    """Return the Hub's name of a model that may have TransformerLens's short name, as in SAELens's releases."""
    if "/" in model_name or Path(model_name).exists():
        return model_name
    try:
        return get_official_model_name(model_name)
    except ValueError:  # TransformerLens does not know the model
        return model_name


def read_model_config(model_name: str, load_options: Mapping[str, Any] | None = None) -> PreTrainedConfig:
    """
    Read the config of a model.

    Args:
        model_name: Hub id or folder.
        load_options: Options of ``from_pretrained``.

    Raises:
        ConfigError: the model is missing or gated, or the Hub cannot be reached.
    """
    options = {key: value for key, value in (load_options or {}).items() if key in CONFIG_OPTIONS}
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


def model_shape(model_name: str, model_class_name: str, load_options: Mapping[str, Any] | None = None) -> ModelShape:
    """
    Return the sizes of a model; TransformerLens's names are accepted too.

    Raises:
        ConfigError: as :func:`read_model_config`, or the config lacks the sizes.
    """
    if model_class_name == "HookedTransformer":
        try:
            config = get_pretrained_model_config(model_name)
        except (OSError, ValueError, *TRANSPORT_ERRORS) as error:
            raise ConfigError(why_no_model(model_name, error)) from error
        return ModelShape(config.n_layers, config.d_model, (load_options or {}).get("n_ctx") or config.n_ctx)
    text = read_model_config(model_name, load_options).get_text_config()
    layers, width = getattr(text, "num_hidden_layers", None), getattr(text, "hidden_size", None)
    if not isinstance(layers, int) or not isinstance(width, int):
        raise ConfigError(
            f"model_name={model_name!r} has a config ({type(text).__name__}) without num_hidden_layers and "
            "hidden_size, so it cannot be read here."
        )
    return ModelShape(layers, width)


def model_files(model_name: str) -> list[tuple[str, int, str]]:
    """Return name, size and digest of each weights file of a local model; an empty list for a Hub model."""
    weights = [path for path in sorted(Path(model_name).glob("*")) if path.suffix in WEIGHTS] if model_name else []
    return [(path.name, path.stat().st_size, sampled_digest(path)) for path in weights]


def why_no_model(model_name: str, error: Exception) -> str:
    """Explain why a model could not be read: gated, unknown, with its own code, or unreachable."""
    text, where = str(error), f"model_name={model_name!r}"
    if caused_by(error, GatedRepoError):
        state = "is set but has no access" if os.environ.get("HF_TOKEN") else "is not set"
        return (
            f"{where} is gated on the Hugging Face Hub, and HF_TOKEN {state}: accept the licence on the model's page, "
            "then set HF_TOKEN to a token that may read it (or run `hf auth login`)."
        )
    if caused_by(error, RepositoryNotFoundError) or caused_by(error, HFValidationError):
        return (
            f"{where} is neither a local folder nor a model on the Hugging Face Hub that you can see; check the "
            "spelling, or set HF_TOKEN if it is private."
        )
    if "trust_remote_code" in text:
        return (
            f"{where} comes with code of its own, which is not run; if you trust it, set "
            "model_from_pretrained_kwargs={trust_remote_code: true}."
        )
    copy = cache_folder() / QUICKSTART_MODEL
    there = ""
    if model_name == "HuggingFaceTB/SmolLM2-135M-Instruct" and copy.is_dir():
        there = f"; the copy that `abstopk quickstart` made is model_name={copy}"
    detail = f"{type(error).__name__}: {text.splitlines()[0][:200] if text else 'no detail'}"
    return (
        f"{where} could not be loaded from a local folder, the cache or the Hugging Face Hub ({detail}); check the "
        f"name and the connection, or give the path of a local folder{there}."
    )
