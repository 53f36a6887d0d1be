"""The metadata of an SAE without paths, tokens and caches of this machine."""

from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from sae_lens import SAE
from sae_lens.saes.sae import SAEMetadata

from sae_lens_abstopk.saes.derive import derive
from sae_lens_abstopk.system.files import without_path

# metadata that are a local path or a name on the Hub
NAMES = ("model_name", "dataset_path")
# options of loading a model that are not published
PRIVATE = ("token", "use_auth_token", "cache_dir")


def with_portable_metadata(sae: SAE[Any], base_model: str | None) -> SAE[Any]:
    """A copy of ``sae`` on the CPU whose metadata name the model as others find it, and no path of this machine."""
    own = sae.cfg.metadata.get("model_name")
    metadata = SAEMetadata(**_portable(sae.cfg.metadata.to_dict()))
    if base_model is not None and (own is None or without_path(own) != own):
        folder, metadata["model_name"] = metadata.get("model_name"), base_model
        if folder not in (None, base_model.rpartition("/")[2]) and metadata.get("model_weights") is None:
            metadata["model_weights"] = folder
    return derive(type(sae), type(sae.cfg), sae, sae.state_dict(), metadata=metadata).to("cpu")


def _portable(value: Any, key: str | None = None) -> Any:
    if isinstance(value, Mapping):
        return {name: _portable(each, name) for name, each in value.items() if name not in PRIVATE}
    if isinstance(value, list | tuple):
        return [_portable(each) for each in value]
    if not isinstance(value, str):
        return value
    if key in NAMES:
        return without_path(value)
    is_path = Path(value).is_absolute() or PureWindowsPath(value).is_absolute()
    return PureWindowsPath(value).name if is_path else value
