"""Probes on the codes of an SAE: the best latent, the best pair of sides, k-sparse logistic, and pole coverage."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from sae_lens_abstopk.evaluation.probing.method_names import PAIR, SINGLE
from sae_lens_abstopk.evaluation.probing.probe_score import (
    Candidate,
    Labelled,
    Rows,
    choose_and_test,
    logistic_candidate,
)
from sae_lens_abstopk.evaluation.probing.statistics import (
    LatentScores,
    pole_coverage,
    score_latents,
    single_coverage,
)
from sae_lens_abstopk.evaluation.results.bootstrap import Statistic
from sae_lens_abstopk.evaluation.results.records import LatentRecord, PairRecord, ProbeRecord
from sae_lens_abstopk.model.representations import Representations

SPARSITIES = (1, 2, 5, 16)

Codes = Mapping[str, Callable[[Sequence[int], Rows], npt.NDArray[np.float32]]]
"""By read position, from latents and rows to their codes."""
Side = tuple[int, int]
"""A latent, and +1 for its positive side or -1 for its negative one."""


@dataclass(frozen=True)
class CodeProbes:
    """The probes on the codes of one SAE for one pair of poles."""

    scores: dict[str, ProbeRecord]
    """By method."""
    single: LatentRecord
    """The latent of largest |AUROC - 0.5| on train."""
    pair: PairRecord
    """The sides, max(z, 0) or max(-z, 0), of lowest and of highest AUROC on train; both may be of one signed latent."""
    strongest: tuple[int, ...]
    """The latents of the sparse probe with the largest k, strongest first."""
    best_coverage: LatentRecord
    """The latent of largest pole coverage on train, at the read position of largest coverage on val."""
    train_coverage: float
    """Coverage of ``best_coverage`` on train; above 0.5 the latent fires on both sides."""


def probe_codes(representations: Representations, labelled: Sequence[Labelled], sae_name: str) -> list[CodeProbes]:
    """
    Choose on train and val, measure on test, every probe on the codes of ``sae_name``.

    Each of ``labelled`` gives other poles to the same texts and split; all codes are read and ranked once for all.
    """
    train, reads = labelled[0].split.train, representations.reads
    poles = [data.labels[train] for data in labelled]
    scored = {read: score_latents(representations.chunks(sae_name, read, train), poles) for read in reads}
    codes = {read: partial(representations.latents, sae_name, read) for read in reads}
    found = []
    for i, data in enumerate(labelled):
        scores = {read: of_read[i] for read, of_read in scored.items()}
        single, single_score = _single(codes, scores, data)
        pair, pair_score = _pair(codes, scores, data)
        sparse = {k: _sparse(codes, scores, data, k) for k in SPARSITIES}
        best_coverage, train_coverage = _best_coverage(codes, scores, data)
        by_method = {SINGLE: single_score, PAIR: pair_score}
        by_method |= {f"{k}-sparse": score for k, (_, score) in sparse.items()}
        found.append(CodeProbes(by_method, single, pair, sparse[SPARSITIES[-1]][0], best_coverage, train_coverage))
    return found


def _single(codes: Codes, scores: Mapping[str, LatentScores], data: Labelled) -> tuple[LatentRecord, ProbeRecord]:
    def fitted(read: str) -> Candidate[Side]:
        latent = scores[read].best
        orientation = 1 if scores[read].auroc[latent] >= 0.5 else -1
        return Candidate(read, lambda rows: orientation * codes[read]([latent], rows)[:, 0], (latent, orientation))

    best, score = choose_and_test([fitted(read) for read in scores], data)
    coverage = single_coverage(best.score(data.split.test), 1, data.labels[data.split.test])
    latent, orientation = best.chosen
    return LatentRecord(latent=latent, orientation=orientation, coverage=data.on_test(coverage)), score


def _pair(codes: Codes, scores: Mapping[str, LatentScores], data: Labelled) -> tuple[PairRecord, ProbeRecord]:
    pairs: dict[str, tuple[Side, Side]] = {}
    for read, found in scores.items():
        aurocs = np.stack([found.positive_auroc, found.negative_auroc])
        pairs[read] = _side(aurocs, int(aurocs.argmin())), _side(aurocs, int(aurocs.argmax()))

    def fires(read: str, rows: Rows) -> npt.NDArray[np.float32]:
        latents, signs = zip(*pairs[read], strict=True)
        return np.maximum(np.array(signs, dtype=np.float32) * codes[read](latents, rows), 0)

    best, score = choose_and_test([logistic_candidate(read, partial(fires, read), data) for read in scores], data)
    on_a, on_b = fires(best.read, data.split.test).T > 0
    # a text counts if only one side fires, as the two sides of a single latent cannot both fire; otherwise two latents
    # that are always on would cover everything
    coverage = pole_coverage(on_a & ~on_b, on_b & ~on_a, data.labels[data.split.test])
    (latent_a, sign_a), (latent_b, sign_b) = pairs[best.read]
    return PairRecord(
        latent_a=latent_a, sign_a=sign_a, latent_b=latent_b, sign_b=sign_b, coverage=data.on_test(coverage)
    ), score


def _side(of_sides: npt.NDArray[np.float64], flat: int) -> Side:
    """The side of index ``flat`` in [2, d_sae], whose second row is of negative sides."""
    is_negative, latent = divmod(flat, of_sides.shape[1])
    return latent, -1 if is_negative else 1


def _sparse(
    codes: Codes, scores: Mapping[str, LatentScores], data: Labelled, k: int
) -> tuple[tuple[int, ...], ProbeRecord]:
    """Logistic regression on the k latents whose means differ most, standardised, on train (2305.01610)."""
    latents = {read: found.strongest(k) for read, found in scores.items()}
    candidates = [logistic_candidate(read, partial(codes[read], latents[read]), data) for read in scores]
    best, score = choose_and_test(candidates, data)
    return tuple(latents[best.read]), score


def _best_coverage(codes: Codes, scores: Mapping[str, LatentScores], data: Labelled) -> tuple[LatentRecord, float]:
    """The latent of largest pole coverage on train, and that coverage."""

    def coverage(read: str, side: Side, rows: Rows) -> Statistic:
        latent, sign = side
        return single_coverage(codes[read]([latent], rows)[:, 0], sign, data.labels[rows])

    val = data.split.val
    candidates: list[tuple[float, str, Side, float]] = []
    for read, found in scores.items():
        both = np.stack([found.coverage, found.flipped_coverage])
        side = _side(both, int(both.argmax()))
        on_val = float(coverage(read, side, val)(np.ones((1, len(val))))[0])
        candidates.append((on_val, read, side, float(both.max())))
    _, read, side, on_train = max(candidates, key=lambda candidate: candidate[0])
    on_test = data.on_test(coverage(read, side, data.split.test))
    return LatentRecord(latent=side[0], orientation=side[1], coverage=on_test), on_train
