"""The architecture and sizes of a language model, read from its config only."""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, StrictDataclassError
from safetensors import SafetensorError
from transformer_lens.loading_from_pretrained import get_official_model_name, get_pretrained_model_config
from transformers import AutoConfig, PreTrainedConfig

from sae_lens_abstopk.model.quickstart_model import FOLDER as QUICKSTART_MODEL
from sae_lens_abstopk.system.errors import TRANSPORT_ERRORS, as_config_error, caused_by
from sae_lens_abstopk.system.files import cache_folder, sampled_digest

CONFIG_OPTIONS = (
    *("trust_remote_code", "code_revision", "revision", "subfolder"),
    *("cache_dir", "token", "local_files_only"),
)
"""Loading options that apply to a model's config too."""
WEIGHTS = (".safetensors", ".bin", ".gguf")
LOADING_ERRORS = (
    *(AttributeError, ImportError, OSError, SafetensorError, StrictDataclassError, TypeError, ValueError),
    *TRANSPORT_ERRORS,
)


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
    """Read the config of a model, a Hub id or folder; a :class:`ConfigError` says why that is impossible."""
    options = {key: value for key, value in (load_options or {}).items() if key in CONFIG_OPTIONS}
    with model_errors(model_name):
        return AutoConfig.from_pretrained(name_on_hub(model_name), **options)


def model_shape(model_name: str, model_class_name: str, load_options: Mapping[str, Any] | None = None) -> ModelShape:
    """Return the sizes of a model, which may have TransformerLens's name; errors as :func:`read_model_config`."""
    with model_errors(model_name):
        if model_class_name == "HookedTransformer":
            config = get_pretrained_model_config(model_name)
            return ModelShape(config.n_layers, config.d_model, (load_options or {}).get("n_ctx") or config.n_ctx)
        text = read_model_config(model_name, load_options).get_text_config()
        return ModelShape(text.num_hidden_layers, text.hidden_size)


def model_files(model_name: str) -> list[tuple[str, int, str]]:
    """Return name, size and digest of each weights file of a local model; an empty list for a Hub model."""
    weights = [path for path in sorted(Path(model_name).glob("*")) if path.suffix in WEIGHTS] if model_name else []
    return [(path.name, path.stat().st_size, sampled_digest(path)) for path in weights]


def model_errors(model_name: str) -> AbstractContextManager[None]:
    """Turn errors of reading a model into a :class:`ConfigError`: gated, unknown, with own code, or unreadable."""
    return as_config_error(LOADING_ERRORS, lambda error: f"model_name={model_name!r} {_reason(model_name, error)}.")


def _reason(model_name: str, error: Exception) -> str:
    text = str(error.__cause__ if isinstance(error, StrictDataclassError) and error.__cause__ else error)
    if caused_by(error, GatedRepoError):
        state = "is set but has no access" if os.environ.get("HF_TOKEN") else "is not set"
        return (
            f"is gated on the Hugging Face Hub, and HF_TOKEN {state}: accept the licence on the model's page, then set "
            "HF_TOKEN to a token that may read it (or run `hf auth login`)"
        )
    if caused_by(error, RepositoryNotFoundError) or caused_by(error, HFValidationError):
        return (
            "is neither a local folder nor a model on the Hugging Face Hub that you can see; check the spelling, or "
            "set HF_TOKEN if it is private"
        )
    if "trust_remote_code" in text:
        return (
            "comes with code of its own, which is not run; if you trust it, set "
            "model_from_pretrained_kwargs={trust_remote_code: true}"
        )
    copy = cache_folder() / QUICKSTART_MODEL
    there = ""
    if model_name == "HuggingFaceTB/SmolLM2-135M-Instruct" and copy.is_dir():
        there = f"; the copy that `abstopk quickstart` made is model_name={copy}"
    first_line = next(iter(text.strip().splitlines()), "no detail")[:200]
    return (
        f"could not be loaded from a local folder, the cache or the Hugging Face Hub ({type(error).__name__}: "
        f"{first_line}); check the name and the connection, or give the path of a local folder{there}"
    )
