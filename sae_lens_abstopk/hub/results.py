"""Numbers and contexts for the card, from a results file."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE

from sae_lens_abstopk.evaluation.probing.method_names import DIFFERENCE_IN_MEANS, SINGLE, UNTRAINED
from sae_lens_abstopk.evaluation.results.sae_facts import weights_sha256
from sae_lens_abstopk.evaluation.results.schema import Results, read_results
from sae_lens_abstopk.evaluation.results.steering_records import InterventionRecord, SteeringRecord
from sae_lens_abstopk.evaluation.results.task_records import SAETaskRecord, TaskRecord
from sae_lens_abstopk.evaluation.suite.results_file import RESULTS_FILENAME
from sae_lens_abstopk.hub.manifest import ConceptResult, ContextExample, NumberWithInterval, PublishedResults
from sae_lens_abstopk.saes.loading import load_as_saved
from sae_lens_abstopk.system.errors import ConfigError

# name in abstopk.json: heading in the card, format
RESULT_NAMES = {
    "l0": ("L0", ".1f"),
    "fvu": ("FVU", ".3f"),
    "nmse": ("nMSE", ".3f"),
    "recovered_zero": ("loss recovered, zero ablation", ".3f"),
    "recovered_mean": ("loss recovered, mean ablation", ".3f"),
    "dead_latents": ("dead latents", ",.0f"),
    "dead_poles": ("dead poles", ",.0f"),
    "two_sidedness": ("two-sidedness", ".2f"),
}
OF_TWO_SIDES = ("dead_poles", "two_sidedness")
"""Numbers that say nothing of an SAE whose latents all fire on one side."""
CONCEPT_NAMES = {
    "auroc": ("AUROC of the latent", ".2f"),
    "untrained": ("of an untrained SAE's best", ".2f"),
    "difference_in_means": ("of the difference in means", ".2f"),
    "coverage": ("pole coverage", ".2f"),
    "to_a": ("steered to A", "+.2f"),
    "to_b": ("steered to B", "+.2f"),
    "symmetry": ("symmetry", ".2f"),
}


def results_of_file(path: Path) -> dict[str, PublishedResults]:
    """
    The results in a file of ``abstopk eval`` or ``abstopk inspect --json``, by the name that the SAE has there.

    Raises:
        ConfigError: there is no such file, or it is not one of those.
    """
    return results_of(read_results(path))


def results_beside(folders: Mapping[str, Path]) -> dict[str, PublishedResults]:
    """
    Results by SAE id from the ``results.json`` in the folder of an SAE, or in the folder above, that is about its weights.

    A file of that name which is of other weights, or no results file, says nothing of the SAE and is passed over.
    """
    found = {}
    for sae_id, folder in folders.items():
        digest = weights_sha256(folder)
        for path in (folder.parent / RESULTS_FILENAME, folder / RESULTS_FILENAME):
            with suppress(ConfigError):
                own = [each for each in results_of_file(path).values() if each.weights_sha256 == digest]
                found |= {sae_id: own[0]} if own and digest is not None else {}
    return found


def results_of(document: Results) -> dict[str, PublishedResults]:
    """The results in ``document``, by the name that the SAE has there."""
    found = {}
    for name, record in document.reconstruction.items():
        values = record.model_dump() | (record.loss.model_dump() if record.loss else {})
        found[name] = PublishedResults(
            tokens=record.tokens,
            text=document.text,
            held_out=document.held_out,
            numbers={
                key: NumberWithInterval(float(values[key]))
                for key in RESULT_NAMES
                if _is_number(values.get(key)) and (record.two_sidedness > 0 or key not in OF_TWO_SIDES)
            },
            examples=tuple(
                ContextExample(each.latent, 0 if each.code > 0 else 1, each.code, each.before, each.token, each.after)
                for each in document.examples.get(name, ())
            ),
            concepts=tuple(
                _concept(task, about, about.saes[name], document.steering.get(task, {}).get(name))
                for task, about in document.tasks.items()
                if name in about.saes
            ),
            two_sidedness=tuple(record.two_sidedness_histogram),
            weights_sha256=document.saes[name].weights_sha256,
            loss_tokens=record.loss.tokens if record.loss else None,
            kept_tokens=document.kept_tokens,
        )
    return found


def results_in_gauge(results: PublishedResults, flipped: torch.Tensor) -> PublishedResults:
    """``results`` for the SAE whose latents ``flipped`` [d_sae] have changed sign."""
    examples = [
        replace(example, pole=1 - example.pole, code=-example.code) if flipped[example.latent] else example
        for example in results.examples
    ]
    # within a latent the positive pole comes first, and the latents stay in their order
    order = {example.latent: place for place, example in reversed(list(enumerate(examples)))}
    examples.sort(key=lambda example: (order[example.latent], example.pole))
    return replace(results, examples=tuple(examples))


def results_by_id(
    results: Mapping[str, PublishedResults], saes: Mapping[str, SAE[Any] | Path | str]
) -> dict[str, PublishedResults]:
    """
    Those of ``results`` that are of ``saes``, by SAE id: told by the hash of the weights, or else by the id, or by the label
    where the results record no hash.

    Raises:
        ConfigError: there are results and none is of these SAEs, or those under an id are of other weights.
    """
    chosen = {sae_id: _results_of_one(results, sae_id, source) for sae_id, source in saes.items()} if results else {}
    found = {sae_id: own for sae_id, own in chosen.items() if own is not None}
    if results and not found:
        raise ConfigError(
            f"the results are of {', '.join(results)}, and no SAE here has these weights or such an id or label "
            f"({', '.join(saes)}); measure these with `abstopk eval`, or name an SAE in memory by the id that the results have."
        )
    return found


def _results_of_one(
    results: Mapping[str, PublishedResults], sae_id: str, source: SAE[Any] | Path | str
) -> PublishedResults | None:
    digest = None if isinstance(source, SAE) else weights_sha256(source)
    for found in results.values():
        if digest is not None and found.weights_sha256 == digest:
            return found
    named = results.get(sae_id)
    if named is not None and digest is not None and named.weights_sha256 is not None:
        raise ConfigError(
            f"the results of {sae_id!r} were measured on other weights than those in {source}; measure these with "
            "`abstopk eval`, or leave the results out."
        )
    if named is not None:
        return named
    sae = source if isinstance(source, SAE) else load_as_saved(source)
    labelled = results.get(sae.cfg.metadata.label or "")
    # SAEs of several hooks or seeds have one label, the name of their architecture
    return labelled if labelled is not None and labelled.weights_sha256 is None else None


def with_measured(
    results: Mapping[str, PublishedResults], measured: Mapping[str, PublishedResults]
) -> dict[str, PublishedResults]:
    """``results`` by SAE id, with those that were ``measured`` where there are none, and contexts where they have none."""
    return {
        sae_id: replace(results[sae_id], examples=results[sae_id].examples or found.examples)
        if sae_id in results
        else found
        for sae_id, found in measured.items()
    }


def _concept(
    task: str,
    about: TaskRecord,
    found: SAETaskRecord,
    steering: SteeringRecord | None,
) -> ConceptResult:
    probes = found.probes
    steered = steering.interventions.get("latent") if steering else None
    intervals = {
        "auroc": probes[SINGLE].auroc if SINGLE in probes else None,
        "untrained": probes[SINGLE + UNTRAINED].auroc if SINGLE + UNTRAINED in probes else None,
        "difference_in_means": probes[DIFFERENCE_IN_MEANS].auroc if DIFFERENCE_IN_MEANS in probes else None,
        "coverage": found.latent.coverage,
        "to_a": steered.towards_a.log_odds if steered else None,
        "to_b": steered.towards_b.log_odds if steered else None,
        "symmetry": steered.symmetry if steered else None,
    }
    numbers = {
        name: NumberWithInterval(each.value, each.low, each.high)
        for name, each in intervals.items()
        if each is not None and each.value is not None
    }
    return ConceptResult(
        concept=task,
        poles=about.poles,
        latent=found.latent.latent,
        steered_latent=steering.latent if steering else None,
        test_groups=about.test_groups,
        numbers=numbers,
        unmatched=_unmatched(steered) if steered else (),
    )


def _unmatched(steered: InterventionRecord) -> tuple[str, ...]:
    """The numbers that are not at matched cost; symmetry is of both directions."""
    found = [name for name, effect in (("to_a", steered.towards_a), ("to_b", steered.towards_b)) if not effect.reached]
    return (*found, "symmetry") if found else ()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and value == value
