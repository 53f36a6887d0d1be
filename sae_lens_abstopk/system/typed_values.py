"""The types of config values, checked with pydantic; errors name the key."""

from dataclasses import fields
from functools import lru_cache
from pathlib import PurePath
from typing import Any, get_type_hints

import numpy as np
import pydantic
import torch

from sae_lens_abstopk.system.errors import ConfigError


def field_types(config_class: type) -> dict[str, Any]:
    """Return the type of each field of a dataclass."""
    hints = get_type_hints(config_class)
    return {f.name: hints[f.name] for f in fields(config_class)}


def typed_value(key: str, value: Any, hint: Any) -> Any:
    """
    Return ``value`` as a plain Python value of the type ``hint``.

    Raises:
        ConfigError: it has another type.
    """
    value = _plain(value)
    if key == "seqpos_slice" and isinstance(value, list):
        value = tuple(value)
    try:
        return _adapter(hint).validate_python(value)
    except pydantic.ValidationError as error:
        expected = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
        if value is None:
            raise ConfigError(f"{key}= is empty; give a value of type {expected}.") from None
        detail = error.errors()[0]["msg"].lower()
        raise ConfigError(f"{key}={value!r} has the wrong type ({detail}); expected {expected}.") from None


def require_types(config: Any, *, prefix: str = "") -> None:
    """
    Check the values of a config dataclass and convert them to plain ones; skip nested dataclasses.

    Raises:
        ConfigError: a value has the wrong type; names the key after ``prefix``.
    """
    for name, hint in field_types(type(config)).items():
        if name not in ("sae", "companions", "logger", "metadata"):
            setattr(config, name, typed_value(f"{prefix}{name}", getattr(config, name), hint))


def _plain(value: Any) -> Any:
    """Convert NumPy numbers, paths, torch devices and dtypes to their form in a config file."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, PurePath | torch.device | torch.dtype):
        return str(value).removeprefix("torch.")
    return value


@lru_cache
def _cached_adapter(hint: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(hint, config={"strict": True})


def _adapter(hint: Any) -> pydantic.TypeAdapter[Any]:
    try:
        return _cached_adapter(hint)
    except TypeError:  # the type is not hashable
        return pydantic.TypeAdapter(hint, config={"strict": True})
