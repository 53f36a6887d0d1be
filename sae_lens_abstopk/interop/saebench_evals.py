"""What each evaluation of SAEBench makes of signed codes, as they are and through the mirror."""

from dataclasses import dataclass
from enum import StrEnum

VERSION = "0.6"


class Verdict(StrEnum):
    """How far a number can be believed."""

    RIGHT = "right"
    """It means what its name says."""
    CARE = "care"
    """It is well defined, and means something else than for a non-negative SAE of this width."""
    WRONG = "wrong"
    """Half of the codes are lost or counted against the others."""


@dataclass(frozen=True)
class SaeBenchEval:
    """One evaluation, as SAEBench 0.6 computes it."""

    name: str
    signed: Verdict
    """On the signed SAE as it is."""
    mirrored: Verdict
    """On its mirror."""
    why_signed: str
    why_mirrored: str
    hindrance: str | None = None
    """Why ``abstopk saebench`` does not run it; None where it does."""


RIGHT, CARE, WRONG = Verdict.RIGHT, Verdict.CARE, Verdict.WRONG

EVALS = {
    evaluation.name: evaluation
    for evaluation in (
        SaeBenchEval(
            "core",
            WRONG,
            RIGHT,
            "Reconstruction, cross-entropy, KL and L0 (`!= 0`) are right. Feature density, alive latents and the "
            "consistent-activation heuristic ask `> 0` and lose the negative poles; L1 adds codes with their signs, so "
            "the poles cancel.",
            "Density, alive and dense latents are those of poles; the encoder and decoder cosines leave out no antipode, "
            "so a mean maximum cosine is that of the magnitudes.",
        ),
        SaeBenchEval(
            "sparse_probing",
            RIGHT,
            CARE,
            "Latents are picked by the magnitude of the difference in mean code, and logistic regression takes codes of "
            "any sign.",
            "k counts poles: a concept that a latent holds with both poles takes two. Compare k poles with k/2 latents, "
            "or run the signed SAE as it is.",
        ),
        SaeBenchEval(
            "sparse_probing_sae_probes",
            RIGHT,
            CARE,
            "As sparse probing; the scale of a latent is its mean magnitude, and a binarised code asks `!= 0`, which "
            "tells on from off but not one pole from the other.",
            "k counts poles, as in sparse probing; binarised, a code says which pole.",
        ),
        SaeBenchEval(
            "tpp",
            WRONG,
            RIGHT,
            "The difference in mean code is clamped at 0 from below, so a class that a negative pole stands for has no "
            "effect there and the latent is never ablated for it.",
            "n counts poles: one pole is ablated and the other left, which a signed latent as a whole does not allow.",
        ),
        SaeBenchEval(
            "scr",
            CARE,
            RIGHT,
            "Effects are taken by magnitude, so a latent is found whichever pole it uses, and ablated with both.",
            "n counts poles.",
        ),
        SaeBenchEval(
            "absorption",
            WRONG,
            RIGHT,
            "The k-sparse probes take positive weights alone, so a letter held by a negative pole is not found; a main "
            "latent at a negative code passes for silent (`< 1e-8`), and a latent that absorbs with its negative pole "
            "is left out for its cosine.",
            "The number of split features is one of poles.",
        ),
        SaeBenchEval(
            "autointerp",
            WRONG,
            RIGHT,
            "Live latents are those that fire `> 0`, and top examples, their threshold and the marks on tokens come from "
            "the largest codes: the negative pole is never shown to the judge and its tokens count as silent.",
            "Every explanation and score is one of a pole.",
            "it calls a paid OpenAI model with your API key; run `python -m sae_bench.evals.autointerp.main` on the "
            "mirror",
        ),
        SaeBenchEval(
            "ravel",
            RIGHT,
            RIGHT,
            "Codes of base and source are mixed by a learned mask and decoded; no sign is asked for.",
            "The mask chooses poles, twice as many of them.",
            "its hook wants the tuple that layers of transformers 4 return, and it finds the layers of Gemma 2 and "
            "GPT-NeoX alone",
        ),
        SaeBenchEval(
            "unlearning",
            WRONG,
            CARE,
            "Only codes `> 0` are counted when latents are chosen and clamped when they are.",
            "Chosen poles are clamped to -25 and below. That is a code which the mirror of no token has: it decodes to "
            "the opposite pole at that strength, which for a two-sided latent is another concept.",
            "it needs a forget corpus that is given out on request",
        ),
        SaeBenchEval(
            "mdl",
            WRONG,
            CARE,
            "Bins begin at 0, so negative codes fall out of the histogram and are quantised to the lowest bin.",
            "The bits are those of 2F codes that are coded apart from each other, though both poles are never on at "
            "once: an upper bound on those of F signed codes. A code of 0 is quantised to the middle of the first bin; "
            "here the two poles' errors cancel where their bins agree.",
            "it needs CUDA and a global of its own script, so it runs as that script alone",
        ),
    )
}


def runnable() -> list[str]:
    """Names of the evaluations that ``abstopk saebench`` runs."""
    return [name for name, evaluation in EVALS.items() if evaluation.hindrance is None]
