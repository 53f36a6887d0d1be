"""How well codes, vectors and lengths predict which text is preferred."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from sae_lens_abstopk.evaluation.results.bootstrap import Statistic, bootstrap
from sae_lens_abstopk.pairs.logistic import fit_cross_validated
from sae_lens_abstopk.pairs.pair_results import PreferenceRecord
from sae_lens_abstopk.pairs.preferences import RESAMPLES, Preferences

MOST_PAIRS = 20_000
"""Pairs that are fitted, and pairs that are scored: evenly spaced ones where there are more."""


def predict_preferences(
    train: Preferences,
    held_out: Preferences,
    differences: Callable[[Int[np.ndarray, " n"]], Float[np.ndarray, "n D"]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PreferenceRecord:
    """
    Fit logistic regressions without an intercept on ``train``, and measure them on ``held_out``.

    ``differences`` returns rows of the vectors of A minus B, by their numbers among all pairs. Both parts have at least
    two components. Intervals resample components.
    """
    both = fitted, scored = train.evenly(MOST_PAIRS), held_out.evenly(MOST_PAIRS)

    def auc(of_train: np.ndarray, of_held_out: np.ndarray) -> Statistic:
        weights = fit_cross_validated(of_train, fitted.components)
        return turned_auroc(of_held_out @ weights)

    codes = auc(fitted.codes, scored.codes)
    vector = auc(*(differences(each.rows).astype(np.float32) * each.signs.astype(np.float32)[:, None] for each in both))
    length = auc(fitted.log_length[:, None], scored.log_length[:, None])

    def kept(draws: np.ndarray) -> np.ndarray:
        known = vector(draws) - 0.5
        return np.divide(codes(draws) - 0.5, known, out=np.full(len(known), np.nan), where=known > 0)

    groups = scored.components.tolist()
    statistics = {"auc_codes": codes, "auc_vector": vector, "auc_length": length, "share_kept": kept}
    intervals = {
        name: bootstrap(statistic, len(scored), groups=groups, resamples=resamples, seed=seed)
        for name, statistic in statistics.items()
    }
    return PreferenceRecord(n_train=len(train), n_held_out=len(held_out), **intervals)


def turned_auroc(margins: Float[np.ndarray, " n"]) -> Statistic:
    """
    Return the AUROC of the log-odds ``margins`` of turned pairs, each counted in both orders, under weights of pairs.

    Counted once, in the order drawn for it, a pair would give an AUROC that depends on the draw. In both orders, it is
    the share of all (i, j) with m_i + m_j > 0, in which the one of larger |m| decides. Ties count half.
    """
    order = np.argsort(np.abs(margins), kind="stable")
    size = np.abs(margins)[order]
    starts = np.flatnonzero(np.r_[True, size[1:] != size[:-1]])
    right = (np.sign(margins[order]) + 1) / 2

    def auroc(weights: Float[np.ndarray, "resamples n"]) -> Float[np.ndarray, " resamples"]:
        ranked = weights[:, order]
        drawn = np.add.reduceat(ranked, starts, axis=1)
        decided = 2 * np.cumsum(drawn, axis=1) - drawn
        return np.einsum("rg,rg->r", np.add.reduceat(ranked * right, starts, axis=1), decided) / drawn.sum(1) ** 2

    return auroc
