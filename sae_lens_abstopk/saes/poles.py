"""Firings of the two poles of each latent, and what they say about it."""

from dataclasses import dataclass

import torch

DEAD_POLE_SHARE = 0.01
HISTOGRAM_BINS = 10


@dataclass(frozen=True, eq=False)
class PoleStatistics:
    """Summary of firing counts of both poles over some tokens."""

    live_latents: int
    """Latents that fired at all."""
    dead_poles: int
    """Live latents whose weaker pole holds under 1 % of their firings."""
    two_sidedness: torch.Tensor
    """min(p+, p-) / (p+ + p-) of each latent, [d_sae]: 0 is one-sided, 0.5 even; NaN where it never fired."""

    @property
    def two_sidedness_histogram(self) -> torch.Tensor:
        """Live latents by two-sidedness, int64 [10]: equal bins from 0 to 0.5, the last one closed on both ends."""
        live = self.two_sidedness[~self.two_sidedness.isnan()]
        return torch.histc(live.float().cpu(), bins=HISTOGRAM_BINS, min=0, max=0.5).long()

    @property
    def mean_two_sidedness(self) -> float:
        """Mean over the live latents; 0 if there are none."""
        return self.two_sidedness.nanmean().item() if self.live_latents else 0.0


def pole_counts(feature_acts: torch.Tensor) -> torch.Tensor:
    """How often each latent of codes [..., d_sae] fired on its positive and on its negative pole: int64 [2, d_sae]."""
    if feature_acts.is_sparse:
        latents, values = feature_acts._indices()[-1], feature_acts._values()
    else:  # few are not 0: to find them takes a quarter of the time of two sums over all
        where = feature_acts.nonzero(as_tuple=True)
        latents, values = where[-1], feature_acts[where]
    counts = latents.new_zeros(2, feature_acts.shape[-1])
    for pole, on in enumerate((values > 0, values < 0)):
        counts[pole].index_add_(0, latents, on.to(latents.dtype))
    return counts


def pole_statistics(counts: torch.Tensor) -> PoleStatistics:
    """Statistics of firing counts [2, d_sae], as :func:`pole_counts` gives them and as they add up over batches."""
    total = counts.sum(0)
    weaker = counts.min(0).values
    live = total > 0
    return PoleStatistics(
        live_latents=int(live.sum()),
        dead_poles=int((live & (weaker < DEAD_POLE_SHARE * total)).sum()),
        two_sidedness=torch.where(live, weaker / total.clamp(min=1), torch.nan),
    )


def live_poles(counts: torch.Tensor, dead_share: float = DEAD_POLE_SHARE) -> torch.Tensor:
    """Which poles are alive, bool [2, d_sae]: those that fired, and with at least that share of the firings of their latent."""
    return (counts > 0) & (counts >= dead_share * counts.sum(0))
