"""Files that describe many runs: what their schemas have in common."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from sae_lens_abstopk.system.errors import errors_in
from sae_lens_abstopk.system.typed_values import parsed
from sae_lens_abstopk.system.yaml_files import read_yaml


class FileModel(BaseModel):
    """Base of file schemas: unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a YAML file; raise a :class:`ConfigError` with the file, the key, its value and what is allowed."""
        with errors_in(f"{path}: "):
            return parsed(cls, read_yaml(path))
