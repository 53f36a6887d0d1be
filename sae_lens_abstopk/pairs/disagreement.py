"""Test whether groups of pairs, such as annotators, disagree about an axis."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int
from scipy.linalg import pinvh
from scipy.sparse import csr_array
from scipy.stats import chi2

from sae_lens_abstopk.evaluation.results.bootstrap import ratio_estimates
from sae_lens_abstopk.pairs.effects import false_discovery
from sae_lens_abstopk.pairs.pair_results import DisagreementRecord
from sae_lens_abstopk.pairs.preferences import RESAMPLES, Preferences

FEWEST_COMPONENTS = 20
"""A group with fewer components on which the axis is active is left out."""


def disagreements(
    pairs: Preferences, groups: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> list[DisagreementRecord | None]:
    """
    Test for each axis whether groups prefer it equally often; ``groups`` [n] are those of ``pairs``.

    None where fewer than two groups have enough pairs. Records name the groups of the lowest and highest win rate.
    """
    names, of_pair = np.unique(np.asarray(groups), return_inverse=True)
    components = np.unique(pairs.components, return_inverse=True)[1]
    p = np.full(pairs.codes.shape[1], np.nan)
    extremes: dict[int, tuple[int, int]] = {}
    for axis, code in enumerate(pairs.codes.T):
        rows = np.flatnonzero(code)
        rows = rows[_in_large_group(of_pair[rows], components[rows])]
        present, group = np.unique(of_pair[rows], return_inverse=True)
        if len(present) > 1:
            won = code[rows] > 0
            p[axis] = homogeneity_p(won, group, components[rows])
            rate = np.bincount(group, won) / np.bincount(group)
            last_highest = len(rate) - 1 - rate[::-1].argmax()  # another group than the lowest if all are equal
            extremes[axis] = int(present[rate.argmin()]), int(present[last_highest])
    columns = [(axis, group) for axis, pair in extremes.items() for group in pair]
    active = np.stack([(pairs.codes[:, axis] != 0) & (of_pair == group) for axis, group in columns] or [of_pair < 0], 1)
    won = active & (pairs.codes[:, [axis for axis, _ in columns] or [0]] > 0)
    rates = iter(ratio_estimates(won, active, groups=components.tolist(), resamples=resamples, seed=seed))
    return [
        DisagreementRecord(
            q=q,
            groups=(str(names[extremes[axis][0]]), str(names[extremes[axis][1]])),
            win_rates=(next(rates), next(rates)),
        )
        if axis in extremes
        else None
        for axis, q in enumerate(false_discovery(p).tolist())
    ]


def homogeneity_p(won: Bool[np.ndarray, " n"], group: Int[np.ndarray, " n"], component: Int[np.ndarray, " n"]) -> float:
    """
    Return the p-value of equal means of ``won`` in all groups, numbered from 0, with correlated pairs in a component.

    Of residuals r_i = won_i - mean(won), group g has the score u_g = sum of r_i over its pairs. In it, component c has
    the part U_cg = sum of (1[i in g] - n_g / n) r_i over its pairs. If all means are equal, u' (U' U)^+ u is
    chi-square with (groups - 1) degrees of freedom: a score test, which is careful where there are few components.
    """
    residual = won - won.mean()
    by_group = csr_array((residual, (component, group)))
    by_component = by_group.sum(1)
    share = np.bincount(group) / len(group)
    cross = np.outer(by_group.T @ by_component, share)
    covariance = (by_group.T @ by_group).toarray() - cross - cross.T
    covariance += by_component @ by_component * np.outer(share, share)
    score = by_group.sum(0)
    inverse, rank = pinvh(covariance, rtol=1e-10, return_rank=True)
    return float(chi2.sf(score @ inverse @ score, rank)) if rank else 1.0  # rank 0: all are won, or none


def _in_large_group(group: Int[np.ndarray, " n"], component: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    counted = np.bincount(np.unique(np.stack([group, component]), axis=1)[0], minlength=group.max(initial=0) + 1)
    return counted[group] >= FEWEST_COMPONENTS
