"""Protect the results file of an evaluation from one that measures less."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from sae_lens_abstopk.evaluation.results.facts import weights_sha256
from sae_lens_abstopk.evaluation.results.schema import Results, read_results
from sae_lens_abstopk.evaluation.suite.suite import Suite, task_key
from sae_lens_abstopk.system.errors import ConfigError

RESULTS_FILENAME = "results.json"


def refuse_overwriting(
    out: Path, sources: Iterable[str], suite: Suite, measured_on: Mapping[str, str | int] | None = None
) -> None:
    """
    Raise if results in ``out`` have SAEs, tasks, steered tasks or controls that the new ones lack, or another text.

    Args:
        out: Folder of the results.
        sources: The SAEs; names may differ from earlier ones.
        suite: The new measurements.
        measured_on: Model, text, held out or not, and seed, by their keys in results.

    Raises:
        ConfigError: naming the results that would be lost, or their other format version.
    """
    path = out / RESULTS_FILENAME
    if not path.is_file():
        return
    try:
        before = read_results(path)
    except ConfigError as error:
        raise ConfigError(f"{error} Move that file away, or name another folder; finished parts are kept.") from None
    lost = _lost_results(before, {identity_of(source) for source in sources}, suite)
    lost += [
        f"everything with {key} {getattr(before, key)} (now {value})"
        for key, value in (measured_on or {}).items()
        if getattr(before, key) != value
    ]
    if lost:
        raise ConfigError(
            f"{path} has results that this evaluation would write over: {', '.join(lost)}. Give another folder by "
            "--out (out=), or move that one away; `abstopk report` shows several files together."
        )


def identity_of(source: str) -> str:
    """Return the hash of an SAE's weights, or the name of a Hub release."""
    return weights_sha256(source) or source


def _lost_results(before: Results, kept: set[str], suite: Suite) -> list[str]:
    tasks = {task_key(name) for name in suite.tasks}
    steered = {task_key(name) for name in suite.steering.tasks} if suite.steering else set()
    saes = before.saes.items()
    lost = [f"the SAE {name} ({sae.folder})" for name, sae in saes if (sae.weights_sha256 or sae.folder) not in kept]
    lost += [f"the task {name}" for name in before.tasks if name not in tasks]
    lost += [f"steering by {name}" for name in before.steering if name not in steered]
    had_behaviour = any(record.behaviour for of in before.steering.values() for record in of.values())
    if had_behaviour and not (suite.steering and suite.steering.behaviour):
        lost.append("behaviour under steering")
    if before.tasks and before.settings.get("untrained") and not suite.untrained:
        lost.append("the untrained controls")
    return lost
