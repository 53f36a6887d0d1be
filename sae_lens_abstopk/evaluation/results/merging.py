"""Merge results files into the content of a report: match SAEs and tasks, rename those that only share a name."""

import re
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations
from pathlib import Path

from sae_lens_abstopk.evaluation.results.records import (
    GeometryRecord,
    ReconstructionRecord,
    SAERecord,
    SAETaskRecord,
    StabilityRecord,
    SteeringRecord,
    TaskRecord,
)
from sae_lens_abstopk.evaluation.results.schema import Results, read_results
from sae_lens_abstopk.system.errors import ConfigError, require_choice

OF_K = re.compile(r" k=[\d.e+]+$")
"""Suffix that `abstopk compare` gives to a group."""
ACCURACY = {"probes": {"__all__": {"accuracy"}}}
SAME_FOR_SEEDS = ("lr", "training_tokens", "train_batch_size_tokens")
"""Facts that seeds of one variant share."""


@dataclass(frozen=True)
class MergedSAE:
    """An SAE under its name in the report."""

    name: str
    variant: str
    """Its variant at its hook, shared by all seeds; its own name outside a comparison."""
    curve: str
    """The variant without its k."""
    model: str
    hook: str
    measured_on: str
    """Text and tokens behind its reconstruction."""
    record: SAERecord
    reconstruction: ReconstructionRecord | None
    geometry: GeometryRecord | None


@dataclass(frozen=True)
class MergedTask:
    """One task on one hook, and every SAE that was measured on it, by its name in the report."""

    name: str
    record: TaskRecord
    """Record of the first result that has the task; its ``saes`` are only that result's."""
    saes: dict[str, SAETaskRecord]
    steering: dict[str, SteeringRecord]


@dataclass(frozen=True)
class MergedResults:
    """The content of a report."""

    results: tuple[Results, ...]
    saes: tuple[MergedSAE, ...]
    tasks: tuple[MergedTask, ...]
    stability: tuple[StabilityRecord, ...]
    concept_cosines: tuple[Mapping[str, Mapping[str, float]], ...]
    """Cosine matrices, one for each set of activations that has one."""
    variants: tuple[str, ...]
    """Groups of all SAEs, including those that :meth:`only` leaves out; this order decides colours."""

    @property
    def names(self) -> list[str]:
        """Names of the SAEs, in the order of the report."""
        return [sae.name for sae in self.saes]

    @property
    def unit(self) -> str:
        """What numbers are counts and means of: rows if all SAEs are of vectors, else tokens."""
        return "rows" if all(document.unit == "rows" for document in self.results) else "tokens"

    @property
    def reconstructed(self) -> list[tuple[MergedSAE, ReconstructionRecord]]:
        """SAEs whose reconstruction was measured."""
        return [(sae, sae.reconstruction) for sae in self.saes if sae.reconstruction]

    def only(self, *, tasks: Sequence[str] = (), saes: Sequence[str] = ()) -> "MergedResults":
        """
        Return the results of these tasks and SAEs; no names select all.

        Raises:
            ConfigError: a name is not in the results.
        """
        for name in tasks:
            require_choice("task", name, [task.name for task in self.tasks])
        for name in saes:
            require_choice("sae", name, self.names)
        chosen = saes or self.names
        return replace(
            self,
            saes=tuple(sae for sae in self.saes if sae.name in chosen),
            tasks=tuple(
                replace(
                    task,
                    saes={name: found for name, found in task.saes.items() if name in chosen},
                    steering={name: found for name, found in task.steering.items() if name in chosen},
                )
                for task in self.tasks
                if not tasks or task.name in tasks
            ),
        )


def names_in_errors(given: Sequence[str | Path | Results]) -> list[str]:
    """Return the name of each result for errors."""
    return [f"result {n}" if isinstance(one, Results) else str(one) for n, one in enumerate(given, start=1)]


def merge_results(given: Sequence[str | Path | Results]) -> MergedResults:
    """
    Merge results files, or what :func:`evaluate` returned, of different SAEs, suites or seeds; at least one.

    An SAE or a task that several results measured appears once if their numbers agree. Else its name gets the hook (and
    the model, if there are several), or the number of the result if the hooks are equal. Tasks of the same name are one
    task if texts, split, model and hook are equal.

    Raises:
        ConfigError: a file is not readable as results, or two of one model and hook give the same SAE name to different
            weights.
    """
    results = [one if isinstance(one, Results) else read_results(Path(one)) for one in given]
    several = len({document.model for document in results}) > 1
    places = [document.place if several else document.hook for document in results]
    for (a, at, first), (b, there, second) in combinations(
        zip(names_in_errors(given), places, results, strict=True), 2
    ):
        for name in first.saes.keys() & second.saes.keys() if at == there else ():
            both = first.saes[name], second.saes[name]
            if not _same_weights(*both):
                weights = [
                    f"sha256 {sae.weights_sha256[:12]}" if sae.weights_sha256 else f"{sae.folder}, d_sae {sae.d_sae}"
                    for sae in both
                ]
                raise ConfigError(
                    f"{a} and {b} both have an SAE {name!r}, but of different weights ({'; '.join(weights)}); evaluate "
                    "one of them under another name, or report them separately."
                )
    sae_label = _labels(
        [document.saes for document in results],
        places,
        lambda having, name: _contradict([results[i] for i in having], name),
    )
    identities = [
        {name: _task_identity(document, task) for name, task in document.tasks.items()} for document in results
    ]
    task_label = _labels(identities, places, lambda having, name: len({identities[i][name] for i in having}) > 1)
    matrices = [document.concept_cosines for document in results if document.concept_cosines]
    saes = tuple(_with_training(list(_merged_saes(results, places, sae_label))))
    return MergedResults(
        results=tuple(results),
        saes=saes,
        tasks=tuple(_merged_tasks(results, sae_label, task_label)),
        stability=tuple(
            pair.model_copy(update={"first": labels[pair.first], "second": labels[pair.second]})
            for document, labels in zip(results, sae_label, strict=True)
            for pair in document.stability
        ),
        concept_cosines=tuple(matrix for i, matrix in enumerate(matrices) if matrix not in matrices[:i]),
        variants=tuple(dict.fromkeys(sae.variant for sae in saes)),
    )


def _same_weights(one: SAERecord, other: SAERecord) -> bool:
    if one.weights_sha256 and other.weights_sha256:
        return one.weights_sha256 == other.weights_sha256
    # from the Hub: release and id identify the weights
    return (one.folder, one.d_in, one.d_sae) == (other.folder, other.d_in, other.d_sae)


def _labels(
    names: Sequence[Collection[str]], places: Sequence[str], differ: Callable[[Sequence[int], str], bool]
) -> list[dict[str, str]]:
    """Map each result's names to those of the report; ``differ`` says if a name is ambiguous."""
    labels = [{name: name for name in own} for own in names]
    for name in dict.fromkeys(chain.from_iterable(names)):
        having = [i for i, own in enumerate(names) if name in own]
        if not differ(having, name):
            continue
        by_place = not any(differ([j for j in having if places[j] == places[i]], name) for i in having)
        for i in having:
            labels[i][name] = f"{name} ({places[i] if by_place else f'result {i + 1}'})"
    return labels


def _contradict(results: Sequence[Results], name: str) -> bool:
    """Return whether results have different weights or different numbers for an SAE of this name."""
    found: dict[Hashable, str] = {}
    for document in results:
        measured = {"reconstruction": document.reconstruction.get(name), "geometry": document.geometry.get(name)}
        for task, record in document.tasks.items():
            identity = (*_task_identity(document, record), task)
            measured |= {("probing", *identity): record.saes.get(name)}
            measured |= {("steering", *identity): document.steering.get(task, {}).get(name)}
        # some files lack the accuracy of the same probes
        numbers = {key: each.model_dump_json(exclude=ACCURACY) for key, each in measured.items() if each is not None}
        if not _same_weights(document.saes[name], results[0].saes[name]) or any(
            found.setdefault(key, value) != value for key, value in numbers.items()
        ):
            return True
    return False


def _task_identity(document: Results, task: TaskRecord) -> tuple[Hashable, ...]:
    return (document.model, document.hook, document.seed, task.digest, task.texts)


def _merged_saes(
    results: Sequence[Results], places: Sequence[str], label: Sequence[Mapping[str, str]]
) -> Iterator[MergedSAE]:
    for name in dict.fromkeys(shown for labels in label for shown in labels.values()):
        own = [
            (place, document, ours)
            for place, document, labels in zip(places, results, label, strict=True)
            for ours, shown in labels.items()
            if shown == name
        ]
        place, first, _ = own[0]
        records = [document.saes[ours] for _, document, ours in own]
        record = next((each for each in records if each.dead_latents is not None), records[0])
        measured = [(_measured_on(d), d.reconstruction[ours]) for _, d, ours in own if ours in d.reconstruction]
        measured_on, reconstruction = measured[0] if measured else (_measured_on(first), None)
        conditions = [place] if len(set(places)) > 1 else []
        conditions += [measured_on] if len(set(map(_measured_on, results))) > 1 else []
        ending = f" ({'; '.join(conditions)})" if conditions else ""
        yield MergedSAE(
            name=name,
            variant=record.group + ending if record.group else name,
            curve=OF_K.sub("", record.group) + ending if record.group else name,
            model=first.model,
            hook=first.hook,
            measured_on=measured_on,
            record=record,
            reconstruction=reconstruction,
            geometry=next((d.geometry[ours] for _, d, ours in own if ours in d.geometry), None),
        )


def _measured_on(document: Results) -> str:
    return ", ".join(filter(None, (document.text, document.kept_from_training, document.kept_tokens)))


def _with_training(saes: Sequence[MergedSAE]) -> Iterator[MergedSAE]:
    """Add training facts to the variants of ``saes`` in one group that are not seeds of one training."""
    for sae in saes:
        group = [each.record.training for each in saes if each.record.group and each.variant == sae.variant]
        differs = [key for key in SAME_FOR_SEEDS if len({repr(training.get(key)) for training in group}) > 1]
        ending = "".join(f" {key}={sae.record.training.get(key)}" for key in differs)
        yield replace(sae, variant=sae.variant + ending, curve=sae.curve + ending)


def _merged_tasks(
    results: Sequence[Results], sae_label: Sequence[Mapping[str, str]], task_label: Sequence[Mapping[str, str]]
) -> list[MergedTask]:
    merged: dict[str, MergedTask] = {}
    for document, of_saes, of_tasks in zip(results, sae_label, task_label, strict=True):
        for task, record in document.tasks.items():
            # a copy, as the plot of its texts may come from a later result
            first = MergedTask(of_tasks[task], record.model_copy(), {}, {})
            known = merged.setdefault(first.name, first)
            known.record.pca = known.record.pca or record.pca
            for sae, found in record.saes.items():
                if of_saes[sae] not in known.saes or any(probe.accuracy is not None for probe in found.probes.values()):
                    known.saes[of_saes[sae]] = found
            known.steering.update({of_saes[sae]: found for sae, found in document.steering.get(task, {}).items()})
    return list(merged.values())
