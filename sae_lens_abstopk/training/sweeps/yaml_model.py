"""Read a YAML file as a pydantic model."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.yaml_files import read_yaml


class FileModel(BaseModel):
    """Base of file schemas: unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True)


M = TypeVar("M", bound=FileModel)


def read_as(model: type[M], path: Path) -> M:
    """Read a YAML file; raise ConfigError with the file, the key, its value and what is allowed."""
    try:
        return model.model_validate(read_yaml(path))
    except ValidationError as error:
        problem, keys = error.errors()[0], ", ".join(model.model_fields)
        key, value = ".".join(map(str, problem["loc"])), f"={str(problem['input'])[:100]}"
        given = "" if problem["type"] == "missing" else value
        raise ConfigError(f"{path}: {key}{given}: {problem['msg']}. The file has the keys {keys}.") from None
