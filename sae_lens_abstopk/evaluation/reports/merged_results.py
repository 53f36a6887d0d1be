"""Several results files as one: which SAEs and tasks are the same, and what to call those that only share a name."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.evaluation.results import (
    GeometryRecord,
    ReconstructionRecord,
    Results,
    SAERecord,
    SAETaskRecord,
    StabilityRecord,
    SteeringRecord,
    TaskRecord,
)

T = TypeVar("T")


@dataclass(frozen=True)
class MergedSAE:
    """An SAE under the name that the report uses."""

    name: str
    record: SAERecord
    reconstruction: ReconstructionRecord | None
    geometry: GeometryRecord | None

    @property
    def variant(self) -> str:
        """What it is one seed of; itself where it is no part of a comparison."""
        return self.record.group or self.name


@dataclass(frozen=True)
class MergedTask:
    """One task on one hook, and every SAE that was measured on it."""

    name: str
    record: TaskRecord
    """Of the first result that has it; its ``saes`` are those of that result only."""
    saes: Mapping[str, SAETaskRecord]
    """By the report's name of the SAE."""
    steering: Mapping[str, SteeringRecord]


@dataclass(frozen=True)
class MergedResults:
    """What a report shows."""

    results: tuple[Results, ...]
    saes: tuple[MergedSAE, ...]
    tasks: tuple[MergedTask, ...]
    stability: tuple[StabilityRecord, ...]
    concept_cosines: tuple[Mapping[str, Mapping[str, float]], ...]
    """One matrix for each set of activations that has one."""

    @property
    def names(self) -> list[str]:
        """Of the SAEs, in the order of the report."""
        return [sae.name for sae in self.saes]


def merge_results(results: Sequence[Results], *, sources: Sequence[str] = ()) -> MergedResults:
    """
    Bring results of different SAEs, suites or seeds together.

    An SAE, or a task, that several results measured is shown once where their numbers do not contradict each other, else
    once a result with the number of the result behind its name. Tasks of the same name are one task where texts, split,
    model and hook are the same.

    Args:
        results: At least one.
        sources: What each is called in errors, such as its file; "result 1", ... by default.

    Raises:
        ConfigError: there are no results, or two give the same SAE name to different weights.
    """
    if not results:
        raise ConfigError("a report needs at least one results file; got none.")
    called = list(sources) or [f"result {number}" for number in range(1, len(results) + 1)]
    for (a, first), (b, second) in combinations(zip(called, results, strict=True), 2):
        for name in first.saes.keys() & second.saes.keys():
            _refuse_other_weights(name, (a, first.saes[name]), (b, second.saes[name]))
    sae_label = _labels([list(document.saes) for document in results], lambda name: _conflict(results, name))
    identities = [
        {name: _task_identity(document, task) for name, task in document.tasks.items()} for document in results
    ]
    task_label = _labels(
        [list(document.tasks) for document in results],
        lambda name: len({found[name] for found in identities if name in found}) > 1,
    )
    matrices = [document.concept_cosines for document in results if document.concept_cosines]
    return MergedResults(
        results=tuple(results),
        saes=tuple(_merged_saes(results, sae_label)),
        tasks=tuple(_merged_tasks(results, sae_label, task_label)),
        stability=tuple(
            pair.model_copy(update={"first": labels[pair.first], "second": labels[pair.second]})
            for document, labels in zip(results, sae_label, strict=True)
            for pair in document.stability
        ),
        concept_cosines=tuple(matrix for i, matrix in enumerate(matrices) if matrix not in matrices[:i]),
    )


def _refuse_other_weights(name: str, first: tuple[str, SAERecord], second: tuple[str, SAERecord]) -> None:
    (a, one), (b, other) = first, second
    hashes = (one.weights_sha256, other.weights_sha256)
    if all(hashes):
        same, shown = hashes[0] == hashes[1], [f"sha256 {str(digest)[:12]}" for digest in hashes]
    else:  # from the Hub: release and id stand for the weights
        same = (one.folder, one.d_in, one.d_sae) == (other.folder, other.d_in, other.d_sae)
        shown = [f"{record.folder}, d_sae {record.d_sae}" for record in (one, other)]
    if not same:
        raise ConfigError(
            f"{a} and {b} both have an SAE {name!r}, but of different weights ({shown[0]}; {shown[1]}); evaluate one of "
            "them under another name, or report them apart."
        )


def _labels(names: Sequence[Sequence[str]], apart: Callable[[str], bool]) -> list[dict[str, str]]:
    """For each result, from its own names to those of the report."""
    return [
        {name: f"{name} (result {number})" if apart(name) else name for name in own}
        for number, own in enumerate(names, start=1)
    ]


def _conflict(results: Sequence[Results], name: str) -> bool:
    """Whether two results give different numbers to the same measurement of an SAE."""
    found: dict[Hashable, object] = {}
    for document in results:
        if name not in document.saes:
            continue
        measured: dict[Hashable, object] = {}
        if name in document.reconstruction:
            measured["reconstruction"] = document.reconstruction[name].model_dump_json()
        if name in document.geometry:
            measured["geometry"] = document.geometry[name].model_dump_json()
        for task, record in document.tasks.items():
            identity = (*_task_identity(document, record), task)
            if name in record.saes:
                measured[("probing", *identity)] = record.saes[name].model_dump_json()
            if name in document.steering.get(task, {}):
                measured[("steering", *identity)] = document.steering[task][name].model_dump_json()
        if any(found.setdefault(key, value) != value for key, value in measured.items()):
            return True
    return False


def _task_identity(document: Results, task: TaskRecord) -> tuple[Hashable, ...]:
    return (document.model, document.hook, document.seed, task.digest, task.texts)


def _merged_saes(results: Sequence[Results], label: Sequence[Mapping[str, str]]) -> Iterator[MergedSAE]:
    for name in dict.fromkeys(shown for labels in label for shown in labels.values()):
        own = [
            (document, ours)
            for document, labels in zip(results, label, strict=True)
            for ours, shown in labels.items()
            if shown == name
        ]
        yield MergedSAE(
            name=name,
            record=next(document.saes[ours] for document, ours in own),
            reconstruction=_first(document.reconstruction.get(ours) for document, ours in own),
            geometry=_first(document.geometry.get(ours) for document, ours in own),
        )


def _merged_tasks(
    results: Sequence[Results], sae_label: Sequence[Mapping[str, str]], task_label: Sequence[Mapping[str, str]]
) -> Iterator[MergedTask]:
    records: dict[str, TaskRecord] = {}
    saes: dict[str, dict[str, SAETaskRecord]] = {}
    steering: dict[str, dict[str, SteeringRecord]] = {}
    for document, of_saes, of_tasks in zip(results, sae_label, task_label, strict=True):
        for task, record in document.tasks.items():
            name = of_tasks[task]
            known = records.setdefault(name, record)
            if known.pca is None and record.pca is not None:
                records[name] = known.model_copy(update={"pca": record.pca})
            saes.setdefault(name, {}).update({of_saes[sae]: found for sae, found in record.saes.items()})
            found = document.steering.get(task, {})
            steering.setdefault(name, {}).update({of_saes[sae]: measured for sae, measured in found.items()})
    for name, record in records.items():
        yield MergedTask(name=name, record=record, saes=saes[name], steering=steering[name])


def _first(found: Iterator[T | None]) -> T | None:
    return next((value for value in found if value is not None), None)
