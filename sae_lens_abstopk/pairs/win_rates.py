"""How often the text with more of an axis is the preferred one."""

from sae_lens_abstopk.evaluation.results.bootstrap import ratio_estimates
from sae_lens_abstopk.evaluation.results.records import Interval
from sae_lens_abstopk.pairs.preferences import Preferences

RESAMPLES = 2000


def win_rates(pairs: Preferences, *, resamples: int = RESAMPLES, seed: int = 0) -> list[Interval]:
    """Of the pairs on which an axis is active, the share in which the text with more of it was preferred, by axis."""
    return ratio_estimates(
        pairs.codes > 0, pairs.codes != 0, groups=pairs.components.tolist(), resamples=resamples, seed=seed
    )
