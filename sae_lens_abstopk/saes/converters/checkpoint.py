"""Read tensors and settings from files of other projects, without running code in them."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]

from sae_lens_abstopk.system.errors import ConfigError

PICKLED = (".pt", ".pth", ".bin")


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """
    Read the tensors, by name, of a ``.safetensors`` file or of a pickled pure state dict.

    A pickle is opened by ``torch.load(weights_only=True)``, which runs no code of the file.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file.")
    try:
        if path.suffix not in PICKLED:
            return load_file(path)
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ConfigError(
            f"{path} holds more than tensors, and opening it could run code of its author; ask for a .safetensors "
            "file, or for torch.save(sae.state_dict(), FILE)."
        ) from None
    except (SafetensorError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise ConfigError(f"{path} is damaged: {error}.") from None
    entries = cast(dict[str, Any], loaded) if isinstance(loaded, dict) else {}
    if not entries or not all(torch.is_tensor(value) for value in entries.values()):
        raise ConfigError(f"{path} is not a state dict: it must map names to tensors and hold nothing else.")
    return entries


def read_settings(path: Path) -> dict[str, Any]:
    """Read the settings in a JSON file; raise a ConfigError if it is not readable."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; the settings of the SAE are read from it.") from None
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path} is not a JSON object: {error}.") from None


def setting(settings: Mapping[str, Any], key: str, path: Path) -> int:
    """Return the setting ``key``; raise a ConfigError unless it is a whole number of at least 1."""
    value = settings.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{path}: {key}={value!r} must be a whole number of at least 1.")
    return value


def require_shapes(tensors: Mapping[str, torch.Tensor], shapes: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Raise a ConfigError unless the tensors have these ``shapes``, one float dtype and finite values."""
    missing, unknown = sorted(shapes.keys() - tensors.keys()), sorted(tensors.keys() - shapes.keys())
    if missing or unknown:
        raise ConfigError(
            f"{path}: the tensors are not those of this format: missing {', '.join(missing) or 'none'}, "
            f"unknown {', '.join(unknown) or 'none'}."
        )
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tuple(tensor.shape) != shape:
            raise ConfigError(f"{path}: {name} has the shape {list(tensor.shape)}, and the settings say {list(shape)}.")
        if not tensor.is_floating_point() or not tensor.isfinite().all():
            raise ConfigError(f"{path}: {name} must hold finite floating-point numbers.")
    if len({tensor.dtype for tensor in tensors.values()}) > 1:
        raise ConfigError(f"{path}: the tensors are of different types.")
