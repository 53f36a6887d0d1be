"""A complete results document with plausible numbers, for tests of what is read from it."""

from collections.abc import Mapping
from types import UnionType
from typing import Any, TypeVar, get_args

import numpy as np

from sae_lens_abstopk.evaluation.results import records
from sae_lens_abstopk.evaluation.results.records import Interval, Record
from sae_lens_abstopk.evaluation.results.schema import Results

POLES = {"gender": ("he", "she"), "sentiment": ("positive", "negative"), "tense": ("past", "present")}
METHODS = ("single latent", "pair", "1-sparse", "2-sparse", "5-sparse", "16-sparse")
ON_ACTIVATIONS = ("difference in means", "logistic regression")
R = TypeVar("R", bound=Record)


class Draw:
    """Records of plausible numbers."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def number(self, low: float = 0.3, high: float = 0.95) -> float:
        return float(self.random.uniform(low, high))

    def interval(self, low: float = 0.3, high: float = 0.95) -> Interval:
        value = self.number(low, high)
        return Interval(value=value, low=value - 0.04, high=value + 0.04, n_units=8)

    def record(self, kind: type[R], **given: Any) -> R:
        """A record with ``given`` values; required numbers and intervals that are not given are drawn."""
        for name, field in kind.model_fields.items():
            wanted = get_args(field.annotation)[0] if isinstance(field.annotation, UnionType) else field.annotation
            if name not in given and wanted in (int, float, Interval):
                drawn = {int: int(self.random.integers(1, 60)), float: self.number(), Interval: self.interval()}
                given[name] = drawn[wanted]
        return kind(**given)


def results_document(
    *,
    saes: Mapping[str, str | None] | None = None,
    tasks: Mapping[str, tuple[str, str]] | None = None,
    text: str = "and so they went on.",
    seed: int = 0,
) -> Results:
    """Of ``saes`` (name to group; those with "topk" in the name are one-sided) on ``tasks`` (name to poles)."""
    draw = Draw(seed)
    saes = {"batch_abstopk": None, "topk": None} if saes is None else saes
    tasks = POLES if tasks is None else tasks
    first, *others = list(saes) or [""]
    return Results(
        created="2025-01-02T03:04:05+00:00",
        command="abstopk eval runs/a runs/b --suite full --out out",
        commit="0123456789abcdef",
        environment={"python": "3.12.1", "torch": "2.9.0"},
        model="HuggingFaceTB/SmolLM2-135M-Instruct",
        hook="model.layers.15",
        text="smollm2_samples.jsonl.gz",
        held_out=True,
        kept_tokens="a BOS in front, positions 1:, without special tokens 0",
        suite="full",
        settings={"samples": 3},
        seed=seed,
        saes={name: _sae(name, index, group) for index, (name, group) in enumerate(saes.items())},
        reconstruction={name: _reconstruction(name, draw) for name in saes},
        geometry={
            name: draw.record(records.GeometryRecord, antipodal_threshold=-0.7, decoder_norm_quantiles=_quantiles(draw))
            for name in saes
        },
        stability=[
            draw.record(records.StabilityRecord, first=first, second=name, mean_cosine=0.613)
            for name in others
            if saes[name] is not None and saes[name] == saes[first]
        ],
        concept_cosines={a: {b: 1.0 if a == b else draw.number(-0.4, 0.4) for b in tasks} for a in tasks},
        tasks={name: _task(poles, saes, draw) for name, poles in tasks.items()},
        steering={name: {sae: _steering(text, draw) for sae in saes} for index, name in enumerate(tasks) if index != 1},
    )


def _sae(name: str, index: int, group: str | None) -> records.SAERecord:
    return records.SAERecord(
        folder=name,
        architecture="topk" if _one_sided(name) else "signed_jumprelu",
        d_in=576,
        d_sae=4608,
        weights_sha256=f"{index:064x}",
        training={"tokens": 204_800},
        group=group,
    )


def _one_sided(name: str) -> bool:
    return "topk" in name and "abstopk" not in name


def _quantiles(draw: Draw) -> list[float]:
    return sorted(draw.random.uniform(0, 1.4, 5).tolist())


def _reconstruction(name: str, draw: Draw) -> records.ReconstructionRecord:
    given: dict[str, Any] = {
        "two_sidedness_histogram": sorted(draw.random.integers(100, 900, 10).tolist()),
        "density_quantiles": {"positive": _quantiles(draw), "negative": _quantiles(draw)},
    }
    if _one_sided(name):
        given = {
            "dead_poles": 4500,
            "two_sidedness": 0.0,
            "two_sidedness_histogram": [4540, *[0] * 9],
            "density_quantiles": {"positive": _quantiles(draw), "negative": [0.0] * 5},
        }
    loss = draw.record(records.LossRecord, tokens=51_000)
    given |= {"tokens": 50_610, "live_latents": 4540, "loss": loss, "fvu_at_lowest_l0": None}  # not of vectors
    return draw.record(records.ReconstructionRecord, **given)


def _task(poles: tuple[str, str], saes: Mapping[str, str | None], draw: Draw) -> records.TaskRecord:
    def probes(ending: str, names: tuple[str, ...], low: float, high: float) -> dict[str, records.ProbeRecord]:
        return {
            name + ending: draw.record(
                records.ProbeRecord, read="mean", auroc=draw.interval(low, high), accuracy=draw.interval(low, high)
            )
            for name in names
        }

    on_activations = probes("", ON_ACTIVATIONS, 0.92, 0.96) | probes(", permuted", ON_ACTIVATIONS, 0.4, 0.6)

    def sae_task(name: str) -> records.SAETaskRecord:
        def latent() -> records.LatentRecord:
            return draw.record(
                records.LatentRecord,
                latent=int(draw.random.integers(4608)),
                orientation=-1,
                coverage=draw.interval(0.3, 0.45 if _one_sided(name) else 0.9),
                direction_cosine=-draw.number(0.1, 0.6),
                density=0.125,
            )

        return records.SAETaskRecord(
            probes=probes("", METHODS, 0.78, 0.95)
            | on_activations
            | probes(", permuted", METHODS, 0.38, 0.62)
            | probes(", untrained SAE", METHODS, 0.5, 0.7),
            latent=latent(),
            pair=draw.record(records.PairRecord, latent_a=3, sign_a=1, latent_b=7, sign_b=-1),
            best_coverage=latent(),
            coverage_controls={"permuted": draw.interval(), "untrained SAE": draw.interval()},
        )

    labels = [0] * 40 + [1] * 40
    coordinates = [(float(draw.random.normal(4 * pole - 2)), draw.number()) for pole in labels]
    return records.TaskRecord(
        poles=poles,
        digest=f"{draw.random.integers(10**12):064d}",
        source="written for this project",
        licence="MIT",
        texts=(346, 115, 115),
        test_groups=7,
        majority=0.5,
        saes={name: sae_task(name) for name in saes},
        pca=records.PCARecord(coordinates=coordinates, labels=labels, explained=[0.31, 0.12]),
    )


def _steering(text: str, draw: Draw) -> records.SteeringRecord:
    def intervention(slope: float) -> records.InterventionRecord:
        return draw.record(
            records.InterventionRecord,
            doses=[
                draw.record(
                    records.DoseRecord,
                    strength=strength,
                    log_odds=-0.3 + slope * strength + draw.number(-0.05, 0.05),
                    neutral_nll=3.1 + 0.05 * strength**2,
                    text=f"{strength:+g} {text}",
                )
                for strength in (-4.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0)
            ],
            towards_a=draw.record(records.PoleEffectRecord, strength=-draw.number(1, 4), reached=False),
            towards_b=draw.record(records.PoleEffectRecord, strength=draw.number(1, 4), reached=True),
        )

    def behaviour(strength: float) -> records.BehaviourRecord:
        change = draw.interval() if strength else None
        return draw.record(
            records.BehaviourRecord,
            strength=strength,
            reached=strength >= 0,
            multiple_choice_change=change,
            answer=f"{strength:+g} {text}",
        )

    slopes = {"latent": 0.9, "clamp": 0.8, "difference_in_means": 1.2, "random_0": 0.05, "random_1": -0.04}
    return draw.record(
        records.SteeringRecord,
        latent=2154,
        orientation=1,
        scale=12.5,
        latent_chosen_by="largest effect on val prompts among 8",
        strength_chosen_by="neutral cost of 0.1 nats per token on val prompts",
        prompts=(8, 8),
        text_prompt="I think that",
        samples=3,
        baseline_log_odds=-0.3,
        baseline_neutral_nll=3.1,
        interventions={name: intervention(slope) for name, slope in slopes.items()},
        behaviour={"unsteered": [behaviour(0)], "latent": [behaviour(-1.5), behaviour(2.0)]},
    )
