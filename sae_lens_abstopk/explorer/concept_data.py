"""Concepts as the pages read them: plain JSON."""

from collections.abc import Sequence
from typing import Any

from sae_lens_abstopk.evaluation.reports.steering_tables import shown_name, split_random
from sae_lens_abstopk.evaluation.reports.task_tables import is_control
from sae_lens_abstopk.evaluation.results import Interval, SteeringRecord
from sae_lens_abstopk.explorer.concepts import Concept, FoundLatent, SAEOnConcept
from sae_lens_abstopk.explorer.data_files import short


def concept_data(concept: Concept, saes: Sequence[str]) -> dict[str, Any]:
    """One concept; ``saes`` are the names of the site's SAEs in its order, None where one was not measured."""
    return {
        "name": concept.name,
        "poles": concept.poles,
        "texts": concept.texts,
        "groups": concept.test_groups,
        "cosines": [
            [other, short(cosine)] for other, cosine in sorted(concept.cosines.items(), key=lambda each: -abs(each[1]))
        ],
        "saes": [_sae(concept.saes[name]) if name in concept.saes else None for name in saes],
    }


def _sae(found: SAEOnConcept) -> dict[str, Any]:
    return {
        "latents": [_latent(latent) for latent in found.latents],
        "probes": [[name, _interval(auroc), is_control(name)] for name, auroc in found.probes.items()],
        "steering": _steering(found.steering) if found.steering else None,
    }


def _latent(found: FoundLatent) -> dict[str, Any]:
    return {
        "latent": found.latent,
        "roles": found.roles,
        "orientation": found.orientation,
        "auroc": _interval(found.auroc),
        "coverage": _interval(found.coverage),
        "cosine": short(found.cosine),
    }


def _steering(record: SteeringRecord) -> dict[str, Any]:
    compared, random = split_random(record)
    return {
        "latent": record.latent,
        "orientation": record.orientation,
        "scale": short(record.scale),
        "baseline": short(record.baseline_log_odds),
        "prompts": record.prompts[1],
        "prompt": record.text_prompt,
        "curves": [
            [
                "random" if name in random else shown_name(name),
                [[short(dose.strength), short(dose.log_odds)] for dose in found.doses],
            ]
            for name, found in {**random, **dict(reversed(compared.items()))}.items()  # the latent lies on top
        ],
        "effects": [
            [
                shown_name(name),
                _interval(found.towards_a.log_odds),
                _interval(found.towards_b.log_odds),
                _interval(found.symmetry),
            ]
            for name, found in compared.items()
        ],
        "texts": [[short(dose.strength), dose.text] for dose in compared["latent"].doses]
        if "latent" in compared
        else [],
    }


def _interval(found: Interval | None) -> list[Any] | None:
    if found is None or found.value is None:
        return None
    return [short(found.value), short(found.low), short(found.high), found.n_units]
