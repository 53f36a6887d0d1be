"""Results of four axes on six pairs, with texts that mean harm."""

from typing import Any

import numpy as np

from sae_lens_abstopk.evaluation.labelling.labeler import LabelRecord
from sae_lens_abstopk.evaluation.results.records import Interval
from sae_lens_abstopk.pairs.pair_results import (
    AxisRecord,
    DisagreementRecord,
    HistogramRecord,
    PairFitRecord,
    PairResults,
    PreferenceRecord,
)
from sae_lens_abstopk.pairs.pair_set import PairColumns, PairCounts, PairSet
from sae_lens_abstopk.pairs.telling_apart import ApartRecord, ConceptLatentRecord, ConceptRecord, LatentPairRecord

HTML = "<script>alert(1)</script><img src=x onerror=alert(2)> & <b>bold</b> </script><!-- <script>"
LONG = "a sentence that goes on. " * 4000
BIDI = "שלום \u202eevil\u202c مرحبا"
A = ["I am sorry, I cannot help with that.", HTML, BIDI, "The cat sat on the mat.", "", "Sorry, no.\r\n\tNo."]
B = [
    "Sure! Here is how.",
    LONG,
    "👩‍👩‍👧 🎉 \ud800 \x00 \u200b",
    "The cat lay on the mat.",
    "Sure, certainly.",
    "w" * 5000,
]
ROWS = [2, 3, 5, 7, 11, 13]


def interval(value: float, width: float = 0.02) -> Interval:
    return Interval(value=value, low=value - width, high=value + width, n_units=6)


def example_pairs() -> PairSet:
    return PairSet(
        name="pairs.jsonl",
        a=A,
        b=B,
        prompts=[(("user", "How do I do it?"),), (("system", HTML), ("user", LONG)), (), (), (), (("user", ""),)],
        preferred=np.array([-1, 1, 0, np.nan, -1, 1]),
        groups=["ann", "ann", "<i>bob</i>", "ann", "ann", "ann"],
        rows=np.array(ROWS),
        swapped=np.array([True, False, False, False, False, False]),
        counts=PairCounts(read=14),
        columns=PairColumns(a="answer", b="<u>other</u>"),
    )


def example_codes() -> np.ndarray:
    """Codes [6, 8] of four axes, of which the last is never active."""
    codes = np.zeros((6, 8), dtype=np.float32)
    codes[:, 7] = [-3, 2, 0, 0, -1, 0]
    codes[:, 2] = [0, 0, 1.5, -0.5, 0, 0.25]
    codes[:, 4] = [0, 1, 0, 0, 0, -2]
    return codes


def _axis(latent: int, codes: np.ndarray, effect: float | None, **changes: Any) -> AxisRecord:
    order = np.argsort(-codes[:, latent], kind="stable")
    found = {
        "latent": latent,
        "stability": 0.75,
        "share_active": float((codes[:, latent] != 0).mean()),
        "words_positive": ["sure", "certainly", "here"],
        "words_negative": ["sorry", "can't", "<b>no</b>"],
        "name_positive": "complies",
        "name_negative": "refuses, “<b>no</b>”",
        "fidelity": interval(0.6),
        "named": True,
        "markers": {"refusal": -0.3, "length": 0.1, "code": float("nan")},
        "win_rate": effect and interval(0.5 + 2 * effect),
        "effect": effect and interval(effect),
        "effect_train": effect and interval(effect),
        "q": effect and 0.01,
        "confirmed": effect and abs(effect) > 0.02,
        "disagreement": None,
        "examples_positive": [ROWS[n] for n in order if codes[n, latent] > 0],
        "histogram": HistogramRecord(limit=3, positive=[1] * 19 + [5], negative=[2] + [0] * 19),
        "examples_negative": [ROWS[n] for n in order[::-1] if codes[n, latent] < 0],
    }
    return AxisRecord(**found | changes)


def example_concepts() -> list[ConceptRecord]:
    apart = {"auroc": 0.98, "coverage": 0.95}
    pair = LatentPairRecord(latents=(1, 2), auroc=0.93, coverage=0.86)
    return [
        ConceptRecord(
            concept="gender",
            poles=("he", "<b>she</b>"),
            n_train=4,
            n_test=2,
            saes={"signed": ConceptLatentRecord(latent=7, sign=1, **apart)},
            latent_pairs={"one_sided_F": pair, "one_sided_2F": pair},
            mean_difference=ApartRecord(auroc=1.0, coverage=0.99),
            component=ApartRecord(**apart),
        )
    ]


def example_results(*, labelled: bool = True) -> PairResults:
    codes = example_codes()
    groups = DisagreementRecord(q=0.01, groups=("ann", "<i>bob</i>"), win_rates=(interval(0.3), interval(0.8)))
    shorter = {"name_positive": "short", "name_negative": "long", "words_positive": [], "stability": 0.0}
    unnamed = {"name_positive": None, "name_negative": None, "fidelity": None, "named": False}
    named = LabelRecord(positive="$10 & <b>$20</b>", negative="no prices", relation="one-sided")
    axes = [
        _axis(7, codes, 0.1 if labelled else None, disagreement=groups if labelled else None),
        _axis(2, codes, -0.04 if labelled else None, stability=1.0, words_positive=["猫", "$10", "c++"], label=named),
        _axis(4, codes, -0.2 if labelled else None, **shorter),
        _axis(0, codes, None, words_positive=[], words_negative=[], **unnamed),
    ]
    sizes = {"signed": (8, 0.566), "one_sided_F": (8, 0.621), "one_sided_2F": (16, 0.594)}
    at_threshold = {"l0": 4.0, "fvu_at_threshold": 0.5, "l0_at_threshold": 4.4, "not_odd": 0.0}
    fits = {
        kind: PairFitRecord(d_sae=d_sae, fvu=interval(fvu), fvu_seeds=[fvu], **at_threshold)
        for kind, (d_sae, fvu) in sizes.items()
    }
    aucs = dict(zip(("auc_codes", "auc_vector", "auc_length"), map(interval, (0.89, 0.92, 0.61)), strict=True))
    kept = interval(0.93)
    document = {
        "created": "2025-01-01T00:00:00+00:00",
        "command": "abstopk pairs pairs.jsonl",
        "commit": None,
        "environment": {},
        "data": "pairs & <b>more</b>",
        "columns": {},
        "counts": {"read": 14},
        "vectors": {"model": "<b>model</b>", "hook_name": "model.layers.15", "reading": "mean"},
        "n_pairs": 6,
        "n_train": 4,
        "n_held_out": 2,
        "n_components": 6,
        "seed": 0,
        "d_sae": 8,
        "k": 2,
        "training": {},
        "fits": fits,
        "preference": PreferenceRecord(n_train=4, n_held_out=2, share_kept=kept, **aucs) if labelled else None,
        "axes": axes,
        "judge": "1 axis labelled by <b>m</b>, right on 7 of 9 planted ones",
    }
    return PairResults.model_validate(document)
