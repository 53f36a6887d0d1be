"""Read the weights and settings of other projects' SAEs, without running code in the files."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]

from sae_lens_abstopk.system.errors import ConfigError, as_config_error, require_range
from sae_lens_abstopk.system.files import reading
from sae_lens_abstopk.system.typed_values import typed_value

PICKLED = (".pt", ".pth", ".bin")


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the state dict in a ``.safetensors`` file or in a pickle of tensors only."""
    unsafe = (
        f"{path} holds more than tensors, and opening it could run code of its author; ask for a .safetensors file, or "
        "for torch.save(sae.state_dict(), FILE)."
    )
    with as_config_error(pickle.UnpicklingError, lambda _: unsafe), reading(path, "give the weights of the SAE"):
        if path.suffix not in PICKLED:
            return load_file(path)
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)  # runs no code of the file
        tensors = cast(dict[str, Any], loaded)
        if not (isinstance(loaded, dict) and tensors and all(map(torch.is_tensor, tensors.values()))):
            raise ValueError("it must map names to tensors and hold nothing else")
        return tensors


def read_settings(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file."""
    with reading(path, "it must be a JSON object with the settings of the SAE"):
        return dict(json.loads(path.read_text(encoding="utf-8")))


def whole_number(settings: Mapping[str, Any], key: str, path: Path) -> int:
    """Return the setting ``key``, a whole number of at least 1."""
    value: int = typed_value(f"{path}: {key}", settings.get(key), int)
    require_range(f"{path}: {key}", value, at_least=1)
    return value


def require_shapes(tensors: Mapping[str, torch.Tensor], shapes: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Raise a ConfigError unless the tensors have these ``shapes``, one float dtype and finite values."""
    found = {name: tuple(tensor.shape) for name, tensor in sorted(tensors.items())}
    dtypes = {tensor.dtype for tensor in tensors.values()}
    finite = all(tensor.is_floating_point() and tensor.isfinite().all() for tensor in tensors.values())
    if found != shapes or len(dtypes) > 1 or not finite:
        raise ConfigError(
            f"{path} holds {found} of {dtypes}; by its settings it should hold {dict(sorted(shapes.items()))}, finite "
            "floating-point numbers of one type."
        )
