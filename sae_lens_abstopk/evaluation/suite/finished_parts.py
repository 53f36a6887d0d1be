"""Finished parts of an evaluation on disk, so that one that was stopped goes on where it was."""

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from sae_lens_abstopk.system.files import why_not_written, write_whole

T = TypeVar("T")


class Parts:
    """
    One JSON file a part, with a digest of everything that the part depends on; a part of other inputs is made again.

    Args:
        folder: Made if missing.
        common: What every part depends on.
    """

    def __init__(self, folder: Path, common: Any) -> None:
        self.folder, self.common = folder, common
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str, kind: type[T] | Any, depends_on: Any, make: Callable[[], T]) -> T:
        """
        The part ``name`` of type ``kind``: read if it is there for the same inputs, else made and written.

        Where it cannot be written, a warning says so: it took hours to make, and is needed here first of all.
        """
        path = self.folder / f"{name.replace('/', '-')}.json"
        digest = hashlib.sha256(json.dumps([self.common, depends_on], sort_keys=True, default=str).encode()).hexdigest()
        adapter = TypeAdapter(kind)
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["digest"] == digest:
                return adapter.validate_python(stored["part"])
        except (OSError, ValueError, KeyError, TypeError, ValidationError):
            pass  # not there, of an older version or torn: it is made again
        made = make()
        try:
            write_whole(path, json.dumps({"digest": digest, "part": adapter.dump_python(made, mode="json")}))
        except OSError as error:
            warnings.warn(
                f"{path} could not be written ({why_not_written(error)}): this part is measured again if the evaluation is stopped.",
                stacklevel=2,
            )
        return made
