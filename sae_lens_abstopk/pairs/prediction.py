"""How well codes, vectors and lengths predict which text is preferred."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sae_lens_abstopk.evaluation.results.bootstrap import Statistic, bootstrap
from sae_lens_abstopk.evaluation.results.records import Interval
from sae_lens_abstopk.pairs.logistic import fit_cross_validated
from sae_lens_abstopk.pairs.preferences import Preferences
from sae_lens_abstopk.pairs.win_rates import RESAMPLES

MOST_PAIRS = 20_000
"""Pairs that are fitted, and pairs that are scored: evenly spaced ones where there are more."""


class Prediction(NamedTuple):
    """AUC of preferences on held-out pairs."""

    auc_codes: Interval
    """From the codes of all axes."""
    auc_vector: Interval
    """From all of the difference of the vectors."""
    auc_length: Interval
    """From the difference of the log lengths."""
    share_kept: Interval
    """(auc_codes - 1/2) / (auc_vector - 1/2): how much of what the vector knows the codes keep."""


def predict_preferences(
    train: Preferences,
    held_out: Preferences,
    differences: Float[np.ndarray, "N D"],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Prediction:
    """
    Fit logistic regressions without an intercept on ``train``, and measure them on ``held_out``.

    ``differences`` are of all pairs, vectors of A minus B, and may be memory-mapped. Both parts have at least two
    components. Intervals resample components.
    """
    fitted, scored = train.evenly(MOST_PAIRS), held_out.evenly(MOST_PAIRS)

    def auc(of_train: np.ndarray, of_held_out: np.ndarray) -> Statistic:
        weights = fit_cross_validated(of_train, fitted.components)
        return turned_auroc(of_held_out @ weights)

    codes = auc(fitted.codes, scored.codes)
    vector = auc(fitted.turned(differences), scored.turned(differences))
    length = auc(fitted.log_length[:, None], scored.log_length[:, None])

    def kept(draws: np.ndarray) -> np.ndarray:
        known = vector(draws) - 0.5
        return np.divide(codes(draws) - 0.5, known, out=np.full(len(known), np.nan), where=known > 0)

    groups = scored.components.tolist()
    return Prediction(
        *(
            bootstrap(statistic, len(scored), groups=groups, resamples=resamples, seed=seed)
            for statistic in (codes, vector, length, kept)
        )
    )


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
