"""A small comparison of two models, for tests of what shows one."""

from sae_lens_abstopk.diffs.diff_files import Diff
from sae_lens_abstopk.diffs.diff_results import (
    DiffContext,
    DiffContexts,
    DiffFitRecord,
    DiffLatentRecord,
    DiffPoleRecord,
    DiffResults,
    LatentContexts,
    PCARecord,
)
from sae_lens_abstopk.evaluation.results.records import Interval

NAN = float("nan")


def interval(value: float, by: float = 0.05) -> Interval:
    return Interval(value=value, low=value - by, high=value + by, n_units=40)


def fit(d_sae: int, fvu: float, kl: float) -> DiffFitRecord:
    return DiffFitRecord(
        d_sae=d_sae,
        fvu=interval(fvu),
        l0=2.0,
        fvu_at_threshold=fvu - 0.02,
        l0_at_threshold=2.2,
        dead_latents=0.5,
        dead_poles=1.0,
        two_sidedness=0.2,
        kl_recovered=interval(kl),
        stability=0.8,
        fvu_seeds=[fvu - 0.01, fvu + 0.01],
    )


def latent(number: int, share: float | None, estimate: float) -> DiffLatentRecord:
    """A latent of which nine tenths are on the positive side."""
    parts = {"positive": 0.9, "negative": 0.1}
    poles = {
        side: DiffPoleRecord(
            share_active=0.2 * part,
            scale=3 * part,
            kl_share=None if share is None else interval(share * part, 0.01),
            kl_estimate=estimate * part,
        )
        for side, part in parts.items()
    }
    return DiffLatentRecord(
        latent=number,
        kl_share=None if share is None else interval(share),
        kl_estimate=estimate,
        positive=poles["positive"],
        negative=poles["negative"],
        share_active=0.2,
        stability=1.0,
        stability_halves=0.5,
        mean_cosine=0.3,
    )


def context(code: float, kl: float) -> DiffContext:
    return DiffContext(
        tokens=["<s>", "Where", " is", " it", "?"],
        at=3,
        kl=[0.1, 0.2, 0.1, kl, NAN],
        codes=[NAN, 0.0, 0.0, code, code / 2],
        tuned_next=" Il",
        base_next=" It",
    )


def example() -> Diff:
    """Three latents, of which two are measured."""
    results = DiffResults(
        created="2026-12-01T10:00:00+00:00",
        command="abstopk diff",
        commit=None,
        environment={},
        base="base",
        tuned="tuned",
        hook="model.layers.3",
        data="texts.jsonl",
        unit="document",
        n_units=40,
        n_tokens=4000,
        n_predictions=4200,
        n_predictions_latents=2100,
        seed=0,
        kind="signed",
        d_sae=3,
        k=2,
        training={"seeds": 2},
        fvu=interval(0.4),
        mean_energy=interval(0.2),
        kl=interval(0.7),
        kl_recovered=interval(0.6),
        kl_ceiling=interval(0.9),
        kl_mean_difference=interval(0.1),
        fits={"signed": fit(3, 0.4, 0.6), "one_sided_F": fit(3, 0.45, 0.55), "one_sided_2F": fit(6, 0.38, 0.65)},
        pca=[PCARecord(directions=2, fvu=0.5, kl_recovered=interval(0.3))],
        latents=[latent(2, 0.4, 0.35), latent(0, 0.1, 0.15), latent(1, None, 0.01)],
    )
    contexts = DiffContexts(
        latents=[
            LatentContexts(latent=each.latent, positive=[context(2.0, 3.0)], negative=[context(-1.0, 4.5)])
            for each in results.latents
        ],
        parting=[context(0.0, 5.0).model_copy(update={"codes": []})],
    )
    return Diff(results, contexts)
