"""Merge results files: match SAEs and tasks, and rename those that only share a name."""

import re
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, combinations
from pathlib import Path

from sae_lens_abstopk.evaluation.results.merged_results import MergedResults, MergedSAE, MergedTask
from sae_lens_abstopk.evaluation.results.sae_records import SAERecord
from sae_lens_abstopk.evaluation.results.schema import Results, read_results
from sae_lens_abstopk.evaluation.results.steering_records import SteeringRecord
from sae_lens_abstopk.evaluation.results.task_records import SAETaskRecord, TaskRecord
from sae_lens_abstopk.system.errors import ConfigError

OF_K = re.compile(r" k=[\d.e+]+$")
"""Suffix that `abstopk compare` gives to a group."""
ACCURACY = {"probes": {"__all__": {"accuracy"}}}
SAME_FOR_SEEDS = ("lr", "training_tokens", "train_batch_size_tokens")
"""Facts that seeds of one variant share."""


def read_merged(given: Sequence[str | Path | Results]) -> MergedResults:
    """
    Merge results files, or what :func:`evaluate` returned, by :func:`merge_results`.

    Raises:
        ConfigError: a file is not readable as results, or two contradict each other.
    """
    results = [one if isinstance(one, Results) else read_results(Path(one)) for one in given]
    return merge_results(results, sources=names_in_errors(given))


def names_in_errors(given: Sequence[str | Path | Results]) -> list[str]:
    """Return the name of each result for errors."""
    return [f"result {n}" if isinstance(one, Results) else str(one) for n, one in enumerate(given, start=1)]


def merge_results(results: Sequence[Results], *, sources: Sequence[str] = ()) -> MergedResults:
    """
    Merge results of different SAEs, suites or seeds.

    An SAE or a task that several results measured appears once if their numbers agree. Else its name gets the hook (and
    the model, if there are several), or the number of the result if the hooks are equal. Tasks of the same name are one
    task if texts, split, model and hook are equal.

    Args:
        results: At least one.
        sources: Names for errors, such as the files; "result 1", ... by default.

    Raises:
        ConfigError: there are no results, or two of one model and hook give the same SAE name to different weights.
    """
    if not results:
        raise ConfigError("a report needs at least one results file; got none.")
    called = list(sources) or [f"result {number}" for number in range(1, len(results) + 1)]
    several = len({document.model for document in results}) > 1
    places = [f"{document.model}, {document.hook}" if several else document.hook for document in results]
    for (a, at, first), (b, there, second) in combinations(zip(called, places, results, strict=True), 2):
        for name in first.saes.keys() & second.saes.keys() if at == there else ():
            _require_same_weights(name, (a, first.saes[name]), (b, second.saes[name]))
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


def _require_same_weights(name: str, first: tuple[str, SAERecord], second: tuple[str, SAERecord]) -> None:
    (a, one), (b, other) = first, second
    if not _same_weights(one, other):
        shown = [
            f"sha256 {each.weights_sha256[:12]}" if each.weights_sha256 else f"{each.folder}, d_sae {each.d_sae}"
            for each in (one, other)
        ]
        raise ConfigError(
            f"{a} and {b} both have an SAE {name!r}, but of different weights ({shown[0]}; {shown[1]}); evaluate one "
            "of them under another name, or report them separately."
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
    found: dict[Hashable, object] = {}
    for document in results:
        if not _same_weights(document.saes[name], results[0].saes[name]):
            return True
        measured: dict[Hashable, object] = {}
        if name in document.reconstruction:
            measured["reconstruction"] = document.reconstruction[name].model_dump_json()
        if name in document.geometry:
            measured["geometry"] = document.geometry[name].model_dump_json()
        for task, record in document.tasks.items():
            identity = (*_task_identity(document, record), task)
            if name in record.saes:
                # some files lack the accuracy of the same probes
                measured[("probing", *identity)] = record.saes[name].model_dump_json(exclude=ACCURACY)
            if name in document.steering.get(task, {}):
                measured[("steering", *identity)] = document.steering[task][name].model_dump_json()
        if any(found.setdefault(key, value) != value for key, value in measured.items()):
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
        place, first, ours = own[0]
        record = first.saes[ours]
        reconstructed = next((document for _, document, ours in own if ours in document.reconstruction), first)
        measured_on = _measured_on(reconstructed)
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
            reconstruction=next((d.reconstruction[ours] for _, d, ours in own if ours in d.reconstruction), None),
            geometry=next((d.geometry[ours] for _, d, ours in own if ours in d.geometry), None),
        )


def _measured_on(document: Results) -> str:
    held_out = "kept from training" if document.held_out else "perhaps seen in training"
    return ", ".join(filter(None, (document.text, held_out, document.kept_tokens)))


def _with_training(saes: Sequence[MergedSAE]) -> Iterator[MergedSAE]:
    """Add training facts to the variants of ``saes`` in one group that are not seeds of one training."""
    for sae in saes:
        group = [each.record.training for each in saes if each.record.group and each.variant == sae.variant]
        differs = [key for key in SAME_FOR_SEEDS if len({repr(training.get(key)) for training in group}) > 1]
        ending = "".join(f" {key}={sae.record.training.get(key)}" for key in differs)
        yield replace(sae, variant=sae.variant + ending, curve=sae.curve + ending)


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
            of_task = saes.setdefault(name, {})
            for sae, found in record.saes.items():
                if of_saes[sae] not in of_task or any(probe.accuracy is not None for probe in found.probes.values()):
                    of_task[of_saes[sae]] = found
            steered = document.steering.get(task, {})
            steering.setdefault(name, {}).update({of_saes[sae]: measured for sae, measured in steered.items()})
    for name, record in records.items():
        yield MergedTask(name=name, record=record, saes=saes[name], steering=steering[name])
