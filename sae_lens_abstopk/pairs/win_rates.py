"""How often the text with more of an axis is the preferred one."""

from sae_lens_abstopk.evaluation.results.bootstrap import ratio_estimates
from sae_lens_abstopk.evaluation.results.records import Interval
from sae_lens_abstopk.pairs.preferences import Preferences

RESAMPLES = 2000


def win_rates(pairs: Preferences, *, resamples: int = RESAMPLES, seed: int = 0) -> list[Interval]:
    """Return for each axis how often the text with more of it won, among the pairs on which it is active."""
    return ratio_estimates(
        pairs.codes > 0, pairs.codes != 0, groups=pairs.components.tolist(), resamples=resamples, seed=seed
    )
