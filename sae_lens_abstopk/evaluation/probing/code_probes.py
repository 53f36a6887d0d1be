"""Probes on the codes of an SAE: the best latent, the best pair of sides, k-sparse logistic, and pole coverage."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from sae_lens_abstopk.evaluation.probing.latent_scores import LatentScores, score_latents
from sae_lens_abstopk.evaluation.probing.logistic_probe import LogisticProbe, fit_logistic
from sae_lens_abstopk.evaluation.probing.pole_coverage import pair_fires, pole_coverage, single_fires
from sae_lens_abstopk.evaluation.probing.probe_score import Candidate, Labelled, ProbeScore, Rows, choose_and_test
from sae_lens_abstopk.evaluation.results.bootstrap import Statistic
from sae_lens_abstopk.evaluation.results.interval import Interval
from sae_lens_abstopk.model.representations import Representations

SPARSITIES = (1, 2, 5, 16)

Features = Callable[[Rows], npt.NDArray[np.floating]]
Codes = Mapping[str, Callable[[Sequence[int], Rows], npt.NDArray[np.float32]]]
"""By read position, from latents and rows to their codes."""


@dataclass(frozen=True)
class Side:
    """One side of one latent."""

    latent: int
    sign: int
    """+1 for its positive side, -1 for its negative one."""


@dataclass(frozen=True)
class SingleLatent:
    """The latent of largest |AUROC - 0.5| on train."""

    latent: int
    orientation: int
    """+1 if its positive side goes with pole B, -1 if its negative side does."""
    score: ProbeScore
    coverage: Interval
    """Its pole coverage on test: at most 0.5 for a latent with one side."""


@dataclass(frozen=True)
class CoveringLatent:
    """The latent of largest pole coverage on train."""

    latent: int
    orientation: int
    read: str
    """Chosen on val."""
    train_coverage: float
    """Above 0.5 it fires on both sides; at 0.5 it is one of many equals."""
    coverage: Interval
    """On test."""


@dataclass(frozen=True)
class LatentPair:
    """
    Two sides of latents, max(z, 0) or max(-z, 0), one for each pole, combined by logistic regression.

    Signed and non-negative SAEs choose among the same kind of thing; in a signed SAE both may be sides of one latent.
    """

    pole_a: Side
    """The side of lowest AUROC on train: it fires more on A texts."""
    pole_b: Side
    """The side of highest AUROC on train."""
    C: float
    """Inverse penalty of the logistic regression, chosen on val."""
    score: ProbeScore
    coverage: Interval
    """Share of A texts where only the A side fires plus share of B texts where only the B side does, halved."""


@dataclass(frozen=True)
class SparseProbe:
    """Logistic regression on the k latents whose means differ most, standardised, on train (2305.01610)."""

    k: int
    """At most so many latents."""
    latents: tuple[int, ...]
    """Strongest first."""
    weights: tuple[float, ...]
    """Of the codes, not standardised, in the order of ``latents``; positive ones speak for B."""
    C: float
    score: ProbeScore


@dataclass(frozen=True)
class CodeProbes:
    """The probes on the codes of one SAE for one pair of poles."""

    single: SingleLatent
    pair: LatentPair
    sparse: tuple[SparseProbe, ...]
    """By rising k."""
    best_coverage: CoveringLatent


def probe_codes(representations: Representations, labelled: Sequence[Labelled], sae_name: str) -> list[CodeProbes]:
    """
    Choose on train and val, measure on test, every probe on the codes of ``sae_name``.

    Each of ``labelled`` gives other poles to the same texts and split; all codes are read and ranked once for all.
    """
    train, reads = labelled[0].split.train, representations.reads
    poles = [data.of(train) for data in labelled]
    scored = {read: score_latents(representations.chunks(sae_name, read, train), poles) for read in reads}
    codes = {read: partial(representations.latents, sae_name, read) for read in reads}
    found = []
    for i, data in enumerate(labelled):
        scores = {read: of_read[i] for read, of_read in scored.items()}
        found.append(
            CodeProbes(
                single=_single(codes, scores, data),
                pair=_pair(codes, scores, data),
                sparse=tuple(_sparse(codes, scores, data, k) for k in SPARSITIES),
                best_coverage=_best_coverage(codes, scores, data),
            )
        )
    return found


def _single(codes: Codes, scores: Mapping[str, LatentScores], data: Labelled) -> SingleLatent:
    def fitted(read: str) -> Candidate[tuple[int, int]]:
        latent = scores[read].best
        orientation = 1 if scores[read].auroc[latent] >= 0.5 else -1
        return Candidate(read, lambda rows: orientation * codes[read]([latent], rows)[:, 0], (latent, orientation))

    best, score = choose_and_test([fitted(read) for read in scores], data)
    coverage = pole_coverage(*single_fires(best.score(data.split.test), 1), data.of(data.split.test))
    return SingleLatent(*best.chosen, score, data.on_test(coverage))


def _pair(codes: Codes, scores: Mapping[str, LatentScores], data: Labelled) -> LatentPair:
    pairs: dict[str, tuple[Side, Side]] = {}
    for read, found in scores.items():
        aurocs = np.stack([found.positive_auroc, found.negative_auroc])
        pairs[read] = _side(aurocs, int(aurocs.argmin())), _side(aurocs, int(aurocs.argmax()))

    def fires(read: str, rows: Rows) -> npt.NDArray[np.float32]:
        signs = np.array([side.sign for side in pairs[read]], dtype=np.float32)
        return np.maximum(signs * codes[read]([side.latent for side in pairs[read]], rows), 0)

    best, score = choose_and_test([_logistic(read, partial(fires, read), data) for read in scores], data)
    on_test = fires(best.read, data.split.test)
    coverage = pole_coverage(*pair_fires(on_test[:, 0], on_test[:, 1]), data.of(data.split.test))
    return LatentPair(*pairs[best.read], best.chosen.C, score, data.on_test(coverage))


def _side(of_sides: npt.NDArray[np.float64], flat: int) -> Side:
    """The side of index ``flat`` in [2, d_sae], whose second row is of negative sides."""
    is_negative, latent = divmod(flat, of_sides.shape[1])
    return Side(latent, -1 if is_negative else 1)


def _sparse(codes: Codes, scores: Mapping[str, LatentScores], data: Labelled, k: int) -> SparseProbe:
    latents = {read: found.strongest(k) for read, found in scores.items()}
    candidates = [_logistic(read, partial(codes[read], latents[read]), data) for read in scores]
    best, score = choose_and_test(candidates, data)
    return SparseProbe(k, tuple(latents[best.read]), tuple(best.chosen.weights.tolist()), best.chosen.C, score)


def _logistic(read: str, features: Features, data: Labelled) -> Candidate[LogisticProbe]:
    train, val = data.split.train, data.split.val
    probe = fit_logistic((features(train), data.of(train)), (features(val), data.of(val)))
    return Candidate(read, lambda rows: probe(features(rows)), probe)


def _best_coverage(codes: Codes, scores: Mapping[str, LatentScores], data: Labelled) -> CoveringLatent:
    def coverage(read: str, side: Side, rows: Rows) -> Statistic:
        return pole_coverage(*single_fires(codes[read]([side.latent], rows)[:, 0], side.sign), data.of(rows))

    val = data.split.val
    candidates: list[tuple[float, str, Side, float]] = []
    for read, found in scores.items():
        both = np.stack([found.coverage, found.flipped_coverage])
        side = _side(both, int(both.argmax()))
        on_val = float(coverage(read, side, val)(np.ones((1, len(val))))[0])
        candidates.append((on_val, read, side, float(both.max())))
    _, read, side, on_train = max(candidates, key=lambda candidate: candidate[0])
    return CoveringLatent(side.latent, side.sign, read, on_train, data.on_test(coverage(read, side, data.split.test)))
