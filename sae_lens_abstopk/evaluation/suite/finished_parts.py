"""Finished parts of an evaluation on disk, to resume an interrupted evaluation."""

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from sae_lens_abstopk.system.files import why_not_written, write_whole

T = TypeVar("T")


class FinishedParts:
    """
    One JSON file per part, with a digest of the part's inputs; a part with other inputs is made again.

    Args:
        folder: Folder of the parts, made if missing.
        common: Inputs of every part.
    """

    def __init__(self, folder: Path, common: Any) -> None:
        self.folder, self.common = folder, common
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str, kind: type[T] | Any, depends_on: Any, make: Callable[[], T]) -> T:
        """Read the part ``name`` of type ``kind`` if its inputs are the same, else make and write it."""
        path = self.folder / f"{name.replace('/', '-')}.json"
        digest = hashlib.sha256(json.dumps([self.common, depends_on], sort_keys=True, default=str).encode()).hexdigest()
        adapter = TypeAdapter(kind)
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["digest"] == digest:
                return adapter.validate_python(stored["part"])
        except (OSError, ValueError, KeyError, TypeError, ValidationError):
            pass  # missing, from an older version or incomplete
        made = make()
        try:
            write_whole(path, json.dumps({"digest": digest, "part": adapter.dump_python(made, mode="json")}))
        except OSError as error:  # the part took hours: keep it in memory if it cannot be written
            warnings.warn(
                f"{path} could not be written ({why_not_written(error)}): this part is measured again after an "
                "interruption.",
                stacklevel=2,
            )
        return made
