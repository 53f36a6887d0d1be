"""Probes on the codes of an SAE: the best latent, the best pair of sides, k-sparse logistic, and pole coverage."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sae_lens_abstopk.evaluation.probing.latent_scores import LatentScores, score_latents
from sae_lens_abstopk.evaluation.probing.logistic_probe import fit_logistic
from sae_lens_abstopk.evaluation.probing.pole_coverage import pair_fires, pole_coverage, single_fires
from sae_lens_abstopk.evaluation.probing.probe_score import (
    Candidate,
    Labelled,
    ProbeScore,
    Rows,
    choose_and_test,
)
from sae_lens_abstopk.evaluation.results.bootstrap import Statistic
from sae_lens_abstopk.evaluation.results.interval import Interval
from sae_lens_abstopk.model.representations import Representations

SPARSITIES = (1, 2, 5, 16)

C = TypeVar("C")
Codes = Callable[[Sequence[int], Rows], npt.NDArray[np.float32]]
"""From latents and rows to their codes."""


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
    """What the latent was chosen by; above 0.5 it fires on both sides, and at 0.5 it is one of many equals."""
    coverage: Interval
    """On test."""


@dataclass(frozen=True)
class LatentPair:
    """
    One detector a pole, put together by logistic regression.

    A detector is a side of a latent, max(z, 0) or max(-z, 0), so that signed and non-negative SAEs choose among the
    same kind of thing; in a signed SAE the two may be the sides of one latent.
    """

    pole_a: Side
    """The side that is higher on A texts than any other, by AUROC on train."""
    pole_b: Side
    C: float
    """Of the logistic regression, chosen on val."""
    score: ProbeScore
    coverage: Interval
    """Share of A texts where the A side alone fires plus share of B texts where the B side alone does, halved."""


@dataclass(frozen=True)
class SparseProbe:
    """Logistic regression on the k latents whose means differ most, standardised, on train (2305.01610)."""

    k: int
    """Latents that were asked for; an SAE may have fewer."""
    latents: tuple[int, ...]
    """Strongest first."""
    weights: tuple[float, ...]
    """Of the codes as they come, in the order of ``latents``; positive ones speak for B."""
    C: float
    score: ProbeScore


@dataclass(frozen=True)
class CodeProbes:
    """What the codes of one SAE tell of one pair of poles."""

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
    codes = {read: _reader(representations, sae_name, read) for read in reads}
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


def _reader(representations: Representations, sae_name: str, read: str) -> Codes:
    return lambda latents, rows: representations.latents(sae_name, read, latents, rows)


def _single(codes: dict[str, Codes], scores: dict[str, LatentScores], data: Labelled) -> SingleLatent:
    candidates = []
    for read, found in scores.items():
        latent = found.best
        orientation = 1 if found.auroc[latent] >= 0.5 else -1
        candidates.append(Candidate(read, _oriented(codes[read], latent, orientation), (latent, orientation)))
    best, score = choose_and_test(candidates, data)
    latent, orientation = best.chosen
    fires_a, fires_b = single_fires(best.score(data.split.test), 1)
    coverage = pole_coverage(fires_a, fires_b, data.of(data.split.test))
    return SingleLatent(latent, orientation, score, data.on_test(coverage))


def _oriented(codes: Codes, latent: int, orientation: int) -> Callable[[Rows], npt.NDArray[np.floating]]:
    return lambda rows: orientation * codes([latent], rows)[:, 0]


def _pair(codes: dict[str, Codes], scores: dict[str, LatentScores], data: Labelled) -> LatentPair:
    candidates = []
    for read, found in scores.items():
        sides = np.stack([found.positive_auroc, found.negative_auroc])
        pole_a, pole_b = _side(sides, int(sides.argmin())), _side(sides, int(sides.argmax()))
        candidates.append(_logistic(read, _sides(codes[read], (pole_a, pole_b)), data, chosen=(pole_a, pole_b)))
    best, score = choose_and_test(candidates, data)
    (pole_a, pole_b), _, C = best.chosen
    fired = _sides(codes[best.read], (pole_a, pole_b))(data.split.test)
    coverage = pole_coverage(*pair_fires(fired[:, 0], fired[:, 1]), data.of(data.split.test))
    return LatentPair(pole_a, pole_b, C, score, data.on_test(coverage))


def _side(sides: npt.NDArray[np.float64], flat: int) -> Side:
    below, latent = divmod(flat, sides.shape[1])
    return Side(latent, -1 if below else 1)


def _sides(codes: Codes, sides: Sequence[Side]) -> Callable[[Rows], npt.NDArray[np.float32]]:
    signs = np.array([side.sign for side in sides], dtype=np.float32)
    return lambda rows: np.maximum(signs * codes([side.latent for side in sides], rows), 0)


def _sparse(codes: dict[str, Codes], scores: dict[str, LatentScores], data: Labelled, k: int) -> SparseProbe:
    candidates = []
    for read, found in scores.items():
        latents = found.strongest(k)
        candidates.append(_logistic(read, _columns(codes[read], latents), data, chosen=tuple(latents)))
    best, score = choose_and_test(candidates, data)
    latents, weights, C = best.chosen
    return SparseProbe(k, latents, weights, C, score)


def _columns(codes: Codes, latents: Sequence[int]) -> Callable[[Rows], npt.NDArray[np.float32]]:
    return lambda rows: codes(latents, rows)


def _logistic(
    read: str, features: Callable[[Rows], npt.NDArray[np.floating]], data: Labelled, *, chosen: C
) -> Candidate[tuple[C, tuple[float, ...], float]]:
    """Logistic regression on ``features`` of the rows, as a candidate."""
    train, val = data.split.train, data.split.val
    probe = fit_logistic((features(train), data.of(train)), (features(val), data.of(val)))
    return Candidate(read, lambda rows: probe(features(rows)), (chosen, tuple(probe.weights.tolist()), probe.C))


def _best_coverage(codes: dict[str, Codes], scores: dict[str, LatentScores], data: Labelled) -> CoveringLatent:
    def coverage(read: str, side: Side, rows: Rows) -> Statistic:
        fires_a, fires_b = single_fires(codes[read]([side.latent], rows)[:, 0], side.sign)
        return pole_coverage(fires_a, fires_b, data.of(rows))

    val = data.split.val
    candidates: list[tuple[float, str, Side, float]] = []
    for read, found in scores.items():
        both = np.stack([found.coverage, found.flipped_coverage])
        side = _side(both, int(both.argmax()))
        on_val = float(coverage(read, side, val)(np.ones((1, len(val))))[0])
        candidates.append((on_val, read, side, float(both.max())))
    _, read, side, on_train = max(candidates, key=lambda candidate: candidate[0])
    return CoveringLatent(side.latent, side.sign, read, on_train, data.on_test(coverage(read, side, data.split.test)))
