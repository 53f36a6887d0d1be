"""What an evaluation found about the explored SAEs, concept by concept: which latents, how well, how they steer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.evaluation.records import weights_sha256
from sae_lens_abstopk.evaluation.reports.merged_results import MergedResults, MergedTask, merge_results
from sae_lens_abstopk.evaluation.reports.task_tables import SINGLE
from sae_lens_abstopk.evaluation.results import Interval, LatentRecord, SAETaskRecord, SteeringRecord, read_results

T = TypeVar("T")
BEST_SINGLE, BEST_COVERAGE, STEERED = "best single latent", "best pole coverage", "steered"


@dataclass(frozen=True)
class FoundLatent:
    """A latent that an evaluation chose for a concept."""

    latent: int
    roles: tuple[str, ...] = ()
    """What it was chosen as."""
    orientation: int | None = None
    """1 where its positive side goes with pole B, -1 where it goes with A; None where the file does not say. Of the texts
    where these were probed, else of steering, which may differ: see :attr:`SteeringRecord.orientation`."""
    auroc: Interval | None = None
    """On test, of the best single latent."""
    coverage: Interval | None = None
    """Pole coverage on test."""
    cosine: float | None = None
    """Of its decoder row with the difference in means, from pole A to B."""


@dataclass(frozen=True)
class SAEOnConcept:
    """One SAE on one concept."""

    latents: tuple[FoundLatent, ...]
    probes: Mapping[str, Interval]
    """AUROC on test by method."""
    steering: SteeringRecord | None


@dataclass(frozen=True)
class Concept:
    """One concept and the explored SAEs that were measured on it."""

    name: str
    poles: tuple[str, str]
    """A and B."""
    texts: tuple[int, int, int]
    """In train, val and test."""
    test_groups: int
    cosines: Mapping[str, float]
    """Of its difference in means with that of other concepts."""
    saes: Mapping[str, SAEOnConcept]
    """By the name in the exploration."""


def load_concepts(paths: Sequence[str | Path], saes: Mapping[str, str | Path | None]) -> tuple[Concept, ...]:
    """
    The concepts of results files, as far as they are about ``saes``.

    SAEs are told by the hash of their weights; one that has no folder is told by its name.

    Args:
        paths: Results files, as :func:`merge_results` takes them together.
        saes: By name in the exploration: their folders.

    Raises:
        ConfigError: a file cannot be read, the files contradict each other, or none of them measured any of ``saes``.
    """
    files = [Path(path) for path in paths]
    merged = merge_results([read_results(path) for path in files], sources=[str(path) for path in files])
    hashes = {name: None if source is None else weights_sha256(source) for name, source in saes.items()}
    known = {
        name: [sae.name for sae in merged.saes if _same(name, hashes[name], sae.name, sae.record.weights_sha256)]
        for name in saes
    }
    if not any(known.values()):
        raise ConfigError(
            f"{', '.join(map(str, files))}: none of the SAEs measured there ({', '.join(merged.names)}) has the weights of "
            f"{', '.join(saes)}; evaluate these with `abstopk eval`, or name the results of the same run."
        )
    found = (_concept(task, known, merged) for task in merged.tasks)
    return tuple(concept for concept in found if concept.saes)


def _same(name: str, weights: str | None, measured: str, its_weights: str | None) -> bool:
    if weights is None or its_weights is None:
        return name == measured
    return weights == its_weights


def _concept(task: MergedTask, known: Mapping[str, Sequence[str]], merged: MergedResults) -> Concept:
    # where files contradict each other an SAE has a name a file, and each file may have measured something else
    measured = {name: (_first(task.saes, others), _first(task.steering, others)) for name, others in known.items()}
    cosines = next((matrix[task.name] for matrix in merged.concept_cosines if task.name in matrix), {})
    return Concept(
        name=task.name,
        poles=task.record.poles,
        texts=task.record.texts,
        test_groups=task.record.test_groups,
        cosines={other: cosine for other, cosine in cosines.items() if other != task.name and cosine == cosine},
        saes={
            name: _sae_on_concept(probed, steering)
            for name, (probed, steering) in measured.items()
            if probed is not None or steering is not None
        },
    )


def _first(records: Mapping[str, T], names: Sequence[str]) -> T | None:
    return next((records[name] for name in names if name in records), None)


def _sae_on_concept(probed: SAETaskRecord | None, steering: SteeringRecord | None) -> SAEOnConcept:
    latents: dict[int, FoundLatent] = {}

    def add(role: str, new: FoundLatent) -> None:
        before = latents.get(new.latent, new)
        orientation = before.orientation or new.orientation
        latents[new.latent] = replace(before, roles=(*before.roles, role), orientation=orientation)

    def chosen(record: LatentRecord, auroc: Interval | None = None) -> FoundLatent:
        return FoundLatent(record.latent, (), record.orientation, auroc, record.coverage, record.direction_cosine)

    if probed is not None:
        single = probed.probes.get(SINGLE)
        add(BEST_SINGLE, chosen(probed.latent, single.auroc if single else None))
        add(BEST_COVERAGE, chosen(probed.best_coverage))
        for latent, sign, pole in (
            (probed.pair.latent_a, probed.pair.sign_a, "A"),
            (probed.pair.latent_b, probed.pair.sign_b, "B"),
        ):
            add(f"best pair, {'positive' if sign > 0 else 'negative'} side for {pole}", FoundLatent(latent))
    if steering is not None:
        add(STEERED, FoundLatent(steering.latent, orientation=steering.orientation))
    probes = {name: probe.auroc for name, probe in probed.probes.items()} if probed is not None else {}
    return SAEOnConcept(tuple(latents.values()), probes, steering)
