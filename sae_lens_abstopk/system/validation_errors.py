"""Explain a pydantic validation error in one sentence about one key."""

import reprlib
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from sae_lens_abstopk.system.errors import did_you_mean


def explain(error: ValidationError, raw: Any, model: type[BaseModel]) -> str:
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
            return f"{key} is missing: {takes}."
        case "value_error":
            return f"{key}: {message}" if key else message
        case _:
            told = f"; {key} takes {takes}" if takes else ""
            return f"{key}={reprlib.repr(at)}: {message[0].lower()}{message[1:]}{told}."


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model in an annotation such as ``list[Model] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_section_of, get_args(annotation))), None)
