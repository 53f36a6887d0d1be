"""The folder of an evaluation: its results file, which fewer results do not replace, and finished parts to resume."""

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from sae_lens_abstopk.evaluation.results.facts import weights_sha256
from sae_lens_abstopk.evaluation.results.schema import read_results
from sae_lens_abstopk.evaluation.suite.suite import Suite, task_key
from sae_lens_abstopk.system.errors import ConfigError, errors_in
from sae_lens_abstopk.system.files import UNREADABLE, reason_of, write_whole

RESULTS_FILENAME = "results.json"
NOT_IN_FILE_NAMES = re.compile(r'[/\\:*?"<>|\s]')

T = TypeVar("T")


def refuse_overwriting(
    out: Path, sources: Iterable[str], suite: Suite, measured_on: Mapping[str, str | int] | None = None
) -> None:
    """
    Raise if results in ``out`` have SAEs, tasks, steered tasks or controls that the new ones lack, or another text.

    ``sources`` are the SAEs, whose names may differ from earlier ones; ``measured_on`` has model, text, held out or
    not, and seed, by their keys in results.
    """
    path = out / RESULTS_FILENAME
    if not path.is_file():
        return
    with errors_in("", " Move that file away, or name another folder; finished parts are kept."):
        before = read_results(path)
    kept, steering = {identity_of(source) for source in sources}, suite.steering
    tasks = {task_key(name) for name in suite.tasks}
    steered = {task_key(name) for name in steering.tasks} if steering else set[str]()
    saes = before.saes.items()
    lost = [f"the SAE {name} ({sae.folder})" for name, sae in saes if (sae.weights_sha256 or sae.folder) not in kept]
    lost += [f"the task {name}" for name in before.tasks if name not in tasks]
    lost += [f"steering by {name}" for name in before.steering if name not in steered]
    had_behaviour = any(record.behaviour for of in before.steering.values() for record in of.values())
    if had_behaviour and not (steering and steering.behaviour):
        lost.append("behaviour under steering")
    if before.tasks and before.settings.get("untrained") and not suite.untrained:
        lost.append("the untrained controls")
    for key, value in (measured_on or {}).items():
        if (was := getattr(before, key)) != value:
            lost.append(f"everything with {key} {was} (now {value})")
    if lost:
        raise ConfigError(
            f"{path} has results that this evaluation would write over: {', '.join(lost)}. Give another folder by "
            "--out (out=), or move that one away; `abstopk report` shows several files together."
        )


def identity_of(source: str) -> str:
    """Return the hash of an SAE's weights, or the name of a Hub release."""
    return weights_sha256(source) or source


class FinishedParts:
    """One JSON file per part in ``folder``, with a digest of its inputs and of ``common``, the inputs of every part."""

    def __init__(self, folder: Path, common: Any) -> None:
        self.folder, self.common = folder, common
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str, kind: type[T] | Any, depends_on: Any, make: Callable[[], T]) -> T:
        """Read the part ``name`` of type ``kind`` if its inputs are the same, else make and write it."""
        path = self.folder / f"{NOT_IN_FILE_NAMES.sub('-', name)}.json"
        digest = hashlib.sha256(json.dumps([self.common, depends_on], sort_keys=True, default=str).encode()).hexdigest()
        adapter = TypeAdapter(kind)
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["digest"] == digest:
                return adapter.validate_python(stored["part"])
        except UNREADABLE:
            pass  # missing, from an older version or incomplete
        made = make()
        try:
            write_whole(path, json.dumps({"digest": digest, "part": adapter.dump_python(made, mode="json")}))
        except OSError as error:  # the part took hours: keep it in memory if it cannot be written
            warnings.warn(
                f"{path} could not be written ({reason_of(error)}): this part is measured again after an interruption.",
                stacklevel=2,
            )
        return made
