"""Numbers and contexts for the card: from results files, or measured by ``abstopk publish --measure``."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE

from sae_lens_abstopk.evaluation.probing.method_names import DIFFERENCE_IN_MEANS, SINGLE, UNTRAINED
from sae_lens_abstopk.evaluation.results.facts import CONTEXTS, read_text, text_results, weights_sha256
from sae_lens_abstopk.evaluation.results.records import SAETaskRecord, SteeringRecord, TaskRecord
from sae_lens_abstopk.evaluation.results.schema import Results, read_results
from sae_lens_abstopk.evaluation.subjects.sae_specs import weights_of
from sae_lens_abstopk.evaluation.subjects.subjects import open_subjects
from sae_lens_abstopk.evaluation.suite.results_folder import RESULTS_FILENAME
from sae_lens_abstopk.hub.manifest import ConceptResult, ContextExample, NumberWithInterval, PublishedResults
from sae_lens_abstopk.model.token_filter import TokenSelection
from sae_lens_abstopk.saes.loading import load_as_saved, load_sae, read_by
from sae_lens_abstopk.saes.poles import PoleActivity
from sae_lens_abstopk.saes.signed import is_signed
from sae_lens_abstopk.system.errors import ConfigError

# name in abstopk.json: heading on the card, format
RESULT_NAMES = {
    "l0": ("L0", ".1f"),
    "fvu": ("FVU", ".3f"),
    "one_sided_F": ("FVU, one-sided F", ".3f"),
    "one_sided_2F": ("FVU, one-sided 2F", ".3f"),
    "nmse": ("nMSE", ".3f"),
    "recovered_zero": ("loss recovered, zero ablation", ".3f"),
    "recovered_mean": ("loss recovered, mean ablation", ".3f"),
    "dead_latents": ("did not fire", ",.0f"),
    "dead_poles": ("dead poles", ",.0f"),
    "two_sidedness": ("two-sidedness", ".2f"),
}
TWO_SIDED_ONLY = ("dead_poles", "two_sidedness")
"""Numbers left out for an SAE whose latents all fire on one side."""
CONCEPT_NAMES = {
    "auroc": ("AUROC of the latent", ".2f"),
    "untrained": ("of an untrained SAE's best", ".2f"),
    "difference_in_means": ("of the difference in means", ".2f"),
    "coverage": ("pole coverage", ".2f"),
    "to_a": ("steered to A", "+.2f"),
    "to_b": ("steered to B", "+.2f"),
    "symmetry": ("symmetry", ".2f"),
}


def results_of(document: Results) -> dict[str, PublishedResults]:
    """Return the results in ``document``, by the SAE's name in it."""
    found = {}
    for name, record in document.reconstruction.items():
        values = record.model_dump() | (record.loss.model_dump() if record.loss else {})
        found[name] = PublishedResults(
            tokens=record.tokens,
            text=document.text,
            held_out=document.held_out,
            numbers={
                key: NumberWithInterval(float(value))
                for key in RESULT_NAMES
                if (value := values.get(key)) is not None
                and value == value  # leave out NaN
                and (record.two_sidedness > 0 or key not in TWO_SIDED_ONLY)
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


def results_beside(folders: Mapping[str, Path]) -> dict[str, PublishedResults]:
    """Read results by SAE id from a ``results.json`` in the SAE's folder or its parent, if the weights match."""
    found = {}
    for sae_id, folder in folders.items():
        digest = weights_sha256(folder)
        for path in (folder.parent / RESULTS_FILENAME, folder / RESULTS_FILENAME):
            with suppress(ConfigError):
                for each in results_of(read_results(path)).values():
                    if digest is not None and each.weights_sha256 == digest:
                        found[sae_id] = each
                        break
    return found


def results_by_id(
    sources: Iterable[str | Path | Results], saes: Mapping[str, SAE[Any] | Path | str]
) -> dict[str, PublishedResults]:
    """
    Match results to SAEs by the hash of the weights, else by id, else by label if there is no hash.

    Raises:
        ConfigError: a source is not a results file, matches none of the SAEs, or has other weights under an SAE's id.
    """
    found: dict[str, PublishedResults] = {}
    for source in sources:
        results = results_of(source if isinstance(source, Results) else read_results(Path(source)))
        matched = {sae_id: own for sae_id, sae in saes.items() if (own := _match(results, sae_id, sae)) is not None}
        if results and not matched:
            raise ConfigError(
                f"the results are of {', '.join(results)}, and no SAE here has these weights or such an id or label "
                f"({', '.join(saes)}); measure these with `abstopk eval`, or use the ids of the results."
            )
        found |= matched
    return found


def _match(
    results: Mapping[str, PublishedResults], sae_id: str, source: SAE[Any] | Path | str
) -> PublishedResults | None:
    digest = None if isinstance(source, SAE) else weights_sha256(source)
    for found in results.values():
        if digest is not None and found.weights_sha256 == digest:
            return found
    if (named := results.get(sae_id)) is not None:
        if digest is not None and named.weights_sha256 is not None:
            raise ConfigError(
                f"the results of {sae_id!r} were measured on other weights than those in {source}; measure these with "
                "`abstopk eval`, or leave the results out."
            )
        return named
    sae = source if isinstance(source, SAE) else load_as_saved(source)
    labelled = results.get(sae.cfg.metadata.label or "")
    # SAEs of several hooks or seeds share a label, their architecture
    return labelled if labelled is not None and labelled.weights_sha256 is None else None


def measure(
    folders: Mapping[str, Path],
    *,
    model_name: str | None,
    text: str | None,
    n_tokens: int,
    device: str,
    on_progress: Callable[[int, int], None] | None,
) -> tuple[dict[str, PublishedResults], dict[str, PoleActivity]]:
    """
    Measure results with contexts of each SAE, and the pole activity of the signed ones, by SAE id.

    The layers above the hook do not run, so there is no Loss Recovered. Options as in ``measure_poles``.
    """
    results: dict[str, PublishedResults] = {}
    poles: dict[str, PoleActivity] = {}
    # SAEs with the same model, hook and token selection share LM passes
    groups: defaultdict[tuple[object, ...], dict[str, Path]] = defaultdict(dict)
    for sae_id, folder in folders.items():
        sae = load_sae(folder)
        metadata, weights = sae.cfg.metadata, repr(weights_of(sae))
        has_limit = metadata.max_activation_norm is not None
        groups[read_by(sae), metadata.model_name, weights, TokenSelection.of_sae(sae), has_limit][sae_id] = folder
    for group in groups.values():
        subjects = open_subjects(group, model_name=model_name, text=text, device=device)
        sums = {sae_id: PoleActivity.zeros(sae.cfg.d_sae) for sae_id, sae in subjects.saes.items() if is_signed(sae)}

        def observe(sae_id: str, codes: torch.Tensor, *_: torch.Tensor, sums: dict[str, PoleActivity] = sums) -> None:
            if sae_id in sums:
                sums[sae_id].update(codes)

        found = read_text(
            subjects, n_tokens, contexts=CONTEXTS, with_loss=False, observer=observe, on_progress=on_progress
        )
        results |= results_of(text_results(subjects, found, suite="publish", settings={"tokens": n_tokens}))
        poles |= sums
    return results, poles


def results_in_gauge(results: PublishedResults, flipped: torch.Tensor) -> PublishedResults:
    """Return ``results`` for the SAE with the signs of the latents ``flipped`` [d_sae] changed."""
    examples = [
        replace(example, pole=1 - example.pole, code=-example.code) if flipped[example.latent] else example
        for example in results.examples
    ]
    # latents keep their order; within a latent the positive pole comes first
    order = {example.latent: place for place, example in reversed(list(enumerate(examples)))}
    examples.sort(key=lambda example: (order[example.latent], example.pole))
    return replace(results, examples=tuple(examples))


def _concept(task: str, about: TaskRecord, found: SAETaskRecord, steering: SteeringRecord | None) -> ConceptResult:
    probes = {"auroc": SINGLE, "untrained": SINGLE + UNTRAINED, "difference_in_means": DIFFERENCE_IN_MEANS}
    intervals = {name: found.probes[probe].auroc for name, probe in probes.items() if probe in found.probes}
    intervals |= {"coverage": found.latent.coverage}
    steered, unmatched = steering.interventions.get("latent") if steering else None, ()
    if steered is not None:
        effects = {"to_a": steered.towards_a, "to_b": steered.towards_b}
        intervals |= {name: effect.log_odds for name, effect in effects.items()} | {"symmetry": steered.symmetry}
        missed = [name for name, effect in effects.items() if not effect.reached]
        unmatched = (*missed, "symmetry") if missed else ()  # symmetry needs both directions
    return ConceptResult(
        concept=task,
        poles=about.poles,
        latent=found.latent.latent,
        steered_latent=steering.latent if steering else None,
        test_groups=about.test_groups,
        numbers={
            name: number for name, each in intervals.items() if (number := NumberWithInterval.of(each)) is not None
        },
        unmatched=unmatched,
    )
