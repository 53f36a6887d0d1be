"""A complete results document with plausible numbers, for tests of what is read from it."""

import numpy as np

from sae_lens_abstopk.evaluation.results.records import (
    BehaviourRecord,
    DoseRecord,
    GeometryRecord,
    Interval,
    InterventionRecord,
    LatentRecord,
    LossRecord,
    PairRecord,
    PCARecord,
    PoleEffectRecord,
    ProbeRecord,
    ReconstructionRecord,
    SAERecord,
    SAETaskRecord,
    StabilityRecord,
    SteeringRecord,
    TaskRecord,
)
from sae_lens_abstopk.evaluation.results.schema import Results

POLES = {"gender": ("he", "she"), "sentiment": ("positive", "negative"), "tense": ("past", "present")}
METHODS = ("single latent", "pair", "1-sparse", "2-sparse", "5-sparse", "16-sparse")
ON_ACTIVATIONS = ("difference in means", "logistic regression")


def results_document(
    *,
    saes: dict[str, str | None] | None = None,
    tasks: dict[str, tuple[str, str]] | None = None,
    text: str = "and so they went on.",
    seed: int = 0,
) -> Results:
    """Of ``saes`` (name to group; those with "topk" in the name are one-sided) on ``tasks`` (name to poles)."""
    draw = np.random.default_rng(seed)
    saes = {"batch_abstopk": None, "topk": None} if saes is None else saes
    tasks = POLES if tasks is None else tasks
    probed = {name: _task(poles, saes, draw) for name, poles in tasks.items()}
    names = list(saes)
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
            name: GeometryRecord(
                antipodal_pairs=int(draw.integers(0, 90)),
                antipodal_threshold=-0.7,
                latents_in_antipodal_pairs=int(draw.integers(0, 150)),
                decoder_norm_quantiles=sorted(draw.uniform(0.9, 1.4, 5).tolist()),
            )
            for name in saes
        },
        stability=[
            StabilityRecord(
                first=names[0], second=name, mean_cosine=0.613, share_above_0_7=0.412, share_above_0_9=0.207
            )
            for name in names[1:]
            if saes[name] is not None and saes[name] == saes[names[0]]
        ],
        concept_cosines={a: {b: 1.0 if a == b else float(draw.uniform(-0.4, 0.4)) for b in tasks} for a in tasks},
        tasks=probed,
        steering={name: {sae: _steering(text, draw) for sae in saes} for index, name in enumerate(tasks) if index != 1},
    )


def _sae(name: str, index: int, group: str | None) -> SAERecord:
    return SAERecord(
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


def _interval(value: float, spread: float, units: int = 8) -> Interval:
    return Interval(value=value, low=value - spread, high=value + spread, n_units=units)


def _reconstruction(name: str, draw: np.random.Generator) -> ReconstructionRecord:
    one_sided = _one_sided(name)
    ce_sae = float(draw.uniform(2.75, 2.85))
    return ReconstructionRecord(
        tokens=50_610,
        mse=float(draw.uniform(400, 500)),
        nmse=float(draw.uniform(0.05, 0.08)),
        fvu=float(draw.uniform(0.19, 0.21)),
        cosine=float(draw.uniform(0.95, 0.97)),
        l0=float(draw.uniform(55, 60)),
        dead_latents=int(draw.integers(0, 60)),
        dead_poles=4500 if one_sided else int(draw.integers(0, 60)),
        live_latents=4540,
        two_sidedness=0.0 if one_sided else float(draw.uniform(0.3, 0.45)),
        two_sidedness_histogram=[4540, *[0] * 9] if one_sided else sorted(draw.integers(100, 900, 10).tolist()),
        density_quantiles={
            "positive": sorted(draw.uniform(0, 0.03, 5).tolist()),
            "negative": [0.0] * 5 if one_sided else sorted(draw.uniform(0, 0.03, 5).tolist()),
        },
        loss=LossRecord(
            tokens=51_000,
            ce_clean=2.7,
            ce_sae=ce_sae,
            ce_zero=9.1,
            ce_mean=7.4,
            recovered_zero=(9.1 - ce_sae) / (9.1 - 2.7),
            recovered_mean=(7.4 - ce_sae) / (7.4 - 2.7),
            kl=float(draw.uniform(0.08, 0.15)),
        ),
    )


def _task(poles: tuple[str, str], saes: dict[str, str | None], draw: np.random.Generator) -> TaskRecord:
    def probe(value: float) -> ProbeRecord:
        return ProbeRecord(
            read="mean",
            auroc=_interval(value, 0.04),
            accuracy=_interval(value - 0.05, 0.05),
            train_auroc=value + 0.01,
            val_auroc=value,
        )

    on_activations = {name: probe(float(draw.uniform(0.92, 0.96))) for name in ON_ACTIVATIONS}
    on_activations |= {f"{name}, permuted": probe(float(draw.uniform(0.4, 0.6))) for name in ON_ACTIVATIONS}

    def sae_task(name: str) -> SAETaskRecord:
        probes = {method: probe(float(draw.uniform(0.78, 0.95))) for method in METHODS} | on_activations
        probes |= {f"{method}, permuted": probe(float(draw.uniform(0.38, 0.62))) for method in METHODS}
        probes |= {f"{method}, untrained SAE": probe(float(draw.uniform(0.5, 0.7))) for method in METHODS}
        most = 0.45 if _one_sided(name) else 0.9

        def latent() -> LatentRecord:
            coverage = _interval(float(draw.uniform(0.3, most)), 0.04)
            cosine = -float(draw.uniform(0.1, 0.6))
            return LatentRecord(
                latent=int(draw.integers(4608)),
                orientation=-1,
                coverage=coverage,
                direction_cosine=cosine,
                density=0.125,
            )

        return SAETaskRecord(
            probes=probes,
            latent=latent(),
            pair=PairRecord(latent_a=3, sign_a=1, latent_b=7, sign_b=-1, coverage=_interval(0.81, 0.05)),
            best_coverage=latent(),
            coverage_controls={"permuted": _interval(0.47, 0.02), "untrained SAE": _interval(0.52, 0.04)},
        )

    labels = [0] * 40 + [1] * 40
    return TaskRecord(
        poles=poles,
        digest=f"{draw.integers(10**12):064d}",
        source="written for this project",
        licence="MIT",
        texts=(346, 115, 115),
        test_groups=7,
        majority=0.5,
        saes={name: sae_task(name) for name in saes},
        pca=PCARecord(
            coordinates=[(float(draw.normal(4 * pole - 2)), float(draw.normal())) for pole in labels],
            labels=labels,
            explained=[0.31, 0.12],
        ),
    )


def _steering(text: str, draw: np.random.Generator) -> SteeringRecord:
    def effect(sign: int, slope: float) -> PoleEffectRecord:
        return PoleEffectRecord(
            strength=sign * float(draw.uniform(1, 4)),
            reached=sign > 0,
            log_odds=_interval(2.5 * slope * float(draw.uniform(0.7, 1.1)), 0.3),
            score=_interval(0.3 * slope, 0.1),
            generated_cost=_interval(0.5, 0.1),
            neutral_cost=_interval(0.2, 0.05),
            log_odds_area=_interval(slope, 0.2),
        )

    def intervention(slope: float) -> InterventionRecord:
        return InterventionRecord(
            doses=[
                DoseRecord(
                    strength=strength,
                    log_odds=-0.3 + slope * strength + float(draw.normal(0, 0.05)),
                    score=0.1 * strength * slope,
                    generated_nll=2.6 + 0.12 * strength**2,
                    neutral_nll=3.1 + 0.05 * strength**2,
                    text=f"{strength:+g} {text}",
                )
                for strength in (-4.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0)
            ],
            towards_a=effect(-1, slope),
            towards_b=effect(1, slope),
            symmetry=_interval(float(draw.uniform(0.5, 0.9)), 0.08),
        )

    def behaviour(strength: float) -> BehaviourRecord:
        return BehaviourRecord(
            strength=strength,
            reached=strength >= 0,
            refused_harmful=_interval(0.6 - 0.2 * strength, 0.1),
            refused_harmless=_interval(0.1, 0.05),
            multiple_choice=_interval(0.45, 0.06),
            multiple_choice_change=_interval(-0.02, 0.03) if strength else None,
            answer=f"{strength:+g} {text}",
        )

    slopes = {"latent": 0.9, "clamp": 0.8, "difference_in_means": 1.2, "random_0": 0.05, "random_1": -0.04}
    return SteeringRecord(
        latent=2154,
        orientation=1,
        scale=12.5,
        latent_chosen_by="largest effect on val prompts among 8",
        strength_chosen_by="neutral cost of 0.1 nats per token on val prompts",
        prompts=(8, 8),
        text_prompt="I think that",
        samples=3,
        baseline_log_odds=-0.3,
        baseline_generated_nll=2.6,
        baseline_neutral_nll=3.1,
        interventions={name: intervention(slope) for name, slope in slopes.items()},
        behaviour={"unsteered": [behaviour(0)], "latent": [behaviour(-1.5), behaviour(2.0)]},
    )
