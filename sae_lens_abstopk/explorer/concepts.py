"""Results of an evaluation for the explored SAEs, by concept, as JSON for the pages."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sae_lens_abstopk.evaluation.probing.method_names import SINGLE, is_control
from sae_lens_abstopk.evaluation.reports.report_terminal import coverage_gain
from sae_lens_abstopk.evaluation.results.facts import weights_sha256
from sae_lens_abstopk.evaluation.results.merging import MergedResults, MergedTask, merge_results, names_in_errors
from sae_lens_abstopk.evaluation.results.records import Interval, SAETaskRecord, SteeringRecord, shown_name
from sae_lens_abstopk.evaluation.results.schema import Results
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.pages import short

T = TypeVar("T")
BEST_SINGLE, BEST_COVERAGE, STEERED = "best single latent", "best pole coverage", "steered"


def load_concepts(
    results: Sequence[str | Path | Results], saes: Mapping[str, str | Path | None]
) -> list[dict[str, Any]]:
    """
    Load the concepts that the merged ``results`` measured on any of ``saes`` (name to folder).

    SAEs match by the hash of their weights, or without a folder by name.

    Raises:
        ConfigError: a file cannot be read, the files contradict each other, or none of them has any of ``saes``.
    """
    merged = merge_results(results)
    known: dict[str, list[str]] = {}
    for name, source in saes.items():
        own = None if source is None else weights_sha256(source)
        hashes = {sae.name: sae.record.weights_sha256 for sae in merged.saes}
        known[name] = [
            measured
            for measured, its in hashes.items()
            if (measured == name if own is None or its is None else its == own)
        ]
    if not any(known.values()):
        raise ConfigError(
            f"{', '.join(names_in_errors(results))}: none of the SAEs measured there ({', '.join(merged.names)}) has "
            f"the weights of {', '.join(saes)}; evaluate these with `abstopk eval`."
        )
    found = (_concept(task, known, merged) for task in merged.tasks)
    return [concept for concept in found if any(concept["saes"])]


def _concept(task: MergedTask, known: Mapping[str, Sequence[str]], merged: MergedResults) -> dict[str, Any]:
    """Return one concept, with None for each SAE that was not measured on it."""
    cosines = next((matrix[task.name] for matrix in merged.concept_cosines if task.name in matrix), {})
    others = [(other, cosine) for other, cosine in cosines.items() if other != task.name and cosine == cosine]
    return {
        "name": task.name,
        "poles": task.record.poles,
        "texts": task.record.texts,
        "groups": task.record.test_groups,
        "cosines": [[other, short(cosine)] for other, cosine in sorted(others, key=lambda each: -abs(each[1]))],
        # contradicting files name an SAE differently, and may have different measurements
        "saes": [_sae(_first(task.saes, names), _first(task.steering, names)) for names in known.values()],
    }


def covered_concepts(concepts: Sequence[Mapping[str, Any]], sae: int) -> dict[int, str]:
    """Return the concepts of :func:`load_concepts` that latents of SAE number ``sae`` cover better than controls."""
    return {
        latent["latent"]: concept["name"]
        for concept in reversed(concepts)
        if (found := concept["saes"][sae]) and found["covers"]
        for latent in found["latents"]
        if BEST_COVERAGE in latent["roles"]
    }


def _first(records: Mapping[str, T], names: Sequence[str]) -> T | None:
    return next((records[name] for name in names if name in records), None)


def _sae(probed: SAETaskRecord | None, steering: SteeringRecord | None) -> dict[str, Any] | None:
    """Return one SAE on one concept: latents with their roles, AUROC by method, and steering."""
    if probed is None and steering is None:
        return None
    latents: dict[int, dict[str, Any]] = {}

    def add(role: str, latent: int, orientation: int | None = None, **scores: Any) -> None:
        nothing = {"roles": [], "orientation": None, "auroc": None, "coverage": None, "cosine": None}
        found = latents.setdefault(latent, {"latent": latent, **nothing, **scores})
        found["roles"].append(role)
        # from the texts if known, else from steering; the two may differ (see :attr:`SteeringRecord.orientation`)
        found["orientation"] = found["orientation"] or orientation

    if probed is not None:
        single = probed.probes[SINGLE].auroc if SINGLE in probed.probes else None
        for role, best, auroc in ((BEST_SINGLE, probed.latent, single), (BEST_COVERAGE, probed.best_coverage, None)):
            scores = {"auroc": _interval(auroc), "coverage": _interval(best.coverage)}
            add(role, best.latent, best.orientation, **scores, cosine=short(best.direction_cosine))
        pair = probed.pair
        for latent, sign, pole in ((pair.latent_a, pair.sign_a, "A"), (pair.latent_b, pair.sign_b, "B")):
            add(f"best pair, {'positive' if sign > 0 else 'negative'} side for {pole}", latent)
    if steering is not None:
        add(STEERED, steering.latent, steering.orientation)
    probes = probed.probes.items() if probed is not None else ()
    return {
        "covers": probed is not None and coverage_gain(probed) is not None,
        "latents": list(latents.values()),
        "probes": [[name, _interval(probe.auroc), is_control(name)] for name, probe in probes],
        "steering": None if steering is None else _steering(steering),
    }


def _steering(record: SteeringRecord) -> dict[str, Any]:
    compared, random = record.split_random()
    # the latent is drawn on top, so it comes last
    curves = [*(("random", found) for found in random.values()), *reversed(compared.items())]
    latent = compared.get("latent")
    return {
        "latent": record.latent,
        "orientation": record.orientation,
        "scale": short(record.scale),
        "baseline": short(record.baseline_log_odds),
        "prompts": record.prompts[1],
        "prompt": record.text_prompt,
        "curves": [
            [shown_name(name), [[short(dose.strength), short(dose.log_odds)] for dose in found.doses]]
            for name, found in curves
        ],
        "effects": [
            [shown_name(name), *map(_interval, (found.towards_a.log_odds, found.towards_b.log_odds, found.symmetry))]
            for name, found in compared.items()
        ],
        "unmatched": [[not found.towards_a.reached, not found.towards_b.reached] for found in compared.values()],
        "texts": [[short(dose.strength), dose.text] for dose in latent.doses] if latent else [],
    }


def _interval(found: Interval | None) -> list[Any] | None:
    if found is None or found.value is None:
        return None
    return [short(found.value), short(found.low), short(found.high), found.n_units]
