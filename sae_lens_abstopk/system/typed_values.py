"""Values from users: one or several, and of the types that pydantic checks; errors name the key."""

import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import PurePath
from typing import Any, TypeVar, cast, get_args, get_type_hints

import numpy as np
import pydantic
import torch
from torch import nn

from sae_lens_abstopk.system.errors import ConfigError, did_you_mean

T = TypeVar("T")
M = TypeVar("M", bound=pydantic.BaseModel)


def one_or_more(given: T | Iterable[T]) -> list[T]:
    """Return ``given`` as a list; a string, an iterable module and a record are each one value."""
    one = isinstance(given, str | nn.Module | pydantic.BaseModel) or not isinstance(given, Iterable)
    return [cast(T, given)] if one else list(cast(Iterable[T], given))


def from_keys(spec_class: type[T], keys: Mapping[str, Any]) -> T:
    """Make a dataclass from those of ``keys`` that are its fields, and check their types."""
    types = field_types(spec_class)
    return spec_class(**{key: typed_value(key, keys[key], types[key]) for key in types if key in keys})


def field_types(config_class: type) -> dict[str, Any]:
    """Return the type of each field of a dataclass."""
    hints = get_type_hints(config_class)
    return {f.name: hints[f.name] for f in fields(config_class)}


def typed_value(key: str, value: Any, hint: Any) -> Any:
    """Return ``value`` as a plain value of the type ``hint``; a :class:`ConfigError` if it has another."""
    value = plain_value(value)
    if key == "seqpos_slice" and isinstance(value, list):
        value = tuple(value)
    try:
        return pydantic.TypeAdapter(hint, config={"strict": True}).validate_python(value)
    except pydantic.ValidationError as error:
        expected = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
        detail = error.errors()[0]["msg"].lower()
        raise ConfigError(f"{key}={value!r} has the wrong type ({detail}); expected {expected}.") from None


def require_types(config: Any, *, prefix: str = "") -> None:
    """Check the values of a config dataclass and make them plain; skip nested dataclasses. Errors name the key."""
    for name, hint in field_types(type(config)).items():
        if name not in ("sae", "companions", "logger", "metadata"):
            setattr(config, name, typed_value(f"{prefix}{name}", getattr(config, name), hint))


def require_default(config: Any, key: str, instead: str, *, section: str = "") -> None:
    """Raise a :class:`ConfigError` if a key that is not read has a value; ``instead`` is the remedy."""
    value, default = getattr(config, key), next(field.default for field in fields(config) if field.name == key)
    if value != default:
        raise ConfigError(f"{section}{key}={value!r} has no effect here; leave it out: {instead}.")


def plain_value(value: Any) -> Any:
    """Convert tuples, NumPy numbers, paths, torch devices and dtypes to their form in a config file."""
    if isinstance(value, dict):
        return {key: plain_value(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(each) for each in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, PurePath | torch.device | torch.dtype):
        return str(value).removeprefix("torch.")
    return value


def parsed(model: type[M], raw: Any, **options: Any) -> M:
    """Make ``model`` of a mapping in a file of a user; a :class:`ConfigError` explains one mistake in it."""
    try:
        return model.model_validate(raw, **options)
    except pydantic.ValidationError as error:
        raise ConfigError(explain(error, raw, model)) from None


def explain(error: pydantic.ValidationError, raw: Any, model: type[pydantic.BaseModel]) -> str:
    """
    Describe one mistake in ``raw``, the mapping that ``model`` rejected: the key, its value and what is allowed.

    Among several mistakes an unknown key comes first, then the most deeply nested.
    """
    first = max(error.errors(), key=lambda e: (e["type"] == "extra_forbidden", len(e["loc"])))
    keys, at, takes, section, known = list[str](), raw, "", model, dict[str, Any]()
    for step in first["loc"]:
        if isinstance(at, Mapping) and (step in at or first["type"] == "missing"):
            at = at.get(step)
        elif isinstance(at, list | tuple) and isinstance(step, int):
            at = at[step]
        else:
            continue  # pydantic's name for one of several allowed types
        keys.append(str(step))
        known = {info.alias or name: info for name, info in section.model_fields.items()}
        if (info := known.get(str(step))) is not None:
            takes = info.description or ""
            section = _section_of(info.annotation) or section
    key, message = ".".join(keys), first["msg"].removeprefix("Value error, ")
    match first["type"]:
        case "extra_forbidden":
            where = f"{'.'.join(keys[:-1])}: " if keys[:-1] else ""
            near = did_you_mean(keys[-1], known) or ";"
            return f"{where}unknown key {keys[-1]!r}{near} keys here: {', '.join(known)}."
        case "missing":
            return f"{key} is missing{': ' * bool(takes)}{takes}."
        case "value_error":
            return f"{key}: {message}" if key else message
        case _:
            told = f"; {key} takes {takes}" if takes else ""
            return f"{key}={reprlib.repr(at)}: {message[0].lower()}{message[1:]}{told}."


def _section_of(annotation: Any) -> type[pydantic.BaseModel] | None:
    """Return the model in an annotation such as ``list[Model] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return annotation
    return next(filter(None, map(_section_of, get_args(annotation))), None)
