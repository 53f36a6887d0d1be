"""Firings of the two poles of each latent, and their statistics."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_lens_abstopk.system.errors import ConfigError

DEAD_POLE_SHARE = 0.01
HISTOGRAM_BINS = 10


@dataclass(frozen=True, eq=False)
class PoleStatistics:
    """Summary of firing counts of both poles over some tokens."""

    live_latents: int
    """Latents that fired at all."""
    dead_poles: int
    """Live latents whose weaker pole holds under 1 % of their firings."""
    two_sidedness: Float[Tensor, " F"]
    """min(p+, p-) / (p+ + p-) of each latent: 0 is one-sided, 0.5 even; NaN where it never fired."""

    @property
    def two_sidedness_histogram(self) -> Int[Tensor, "10"]:
        """Live latents by two-sidedness: equal bins from 0 to 0.5, the last one closed on both ends."""
        live = self.two_sidedness[~self.two_sidedness.isnan()]
        return torch.histc(live.float().cpu(), bins=HISTOGRAM_BINS, min=0, max=0.5).long()

    @property
    def mean_two_sidedness(self) -> float:
        """Mean over the live latents; 0 if there are none."""
        return self.two_sidedness.nanmean().item() if self.live_latents else 0.0


def pole_counts(feature_acts: Float[Tensor, "... F"]) -> Int[Tensor, "2 F"]:
    """How often each latent fired on its positive and on its negative pole; codes may be dense or sparse."""
    if feature_acts.is_sparse:
        coalesced = feature_acts.coalesce()
        latents, values = coalesced.indices()[-1], coalesced.values()
    else:  # few are not 0: to find them takes a quarter of the time of two sums over all
        where = feature_acts.nonzero(as_tuple=True)
        latents, values = where[-1], feature_acts[where]
    counts = latents.new_zeros(2, feature_acts.shape[-1])
    for pole, on in enumerate((values > 0, values < 0)):
        counts[pole].index_add_(0, latents, on.to(latents.dtype))
    return counts


def pole_statistics(counts: Int[Tensor, "2 F"]) -> PoleStatistics:
    """Statistics of firing counts, as :func:`pole_counts` gives them and as they add up over batches."""
    total = counts.sum(0)
    weaker = counts.min(0).values
    live = total > 0
    return PoleStatistics(
        live_latents=int(live.sum()),
        dead_poles=int((live & (weaker < DEAD_POLE_SHARE * total)).sum()),
        two_sidedness=torch.where(live, weaker / total.clamp(min=1), torch.nan),
    )


def live_poles(counts: Int[Tensor, "2 F"], dead_share: float = DEAD_POLE_SHARE) -> Bool[Tensor, "2 F"]:
    """Which poles are alive: those that fired, and with at least that share of the firings of their latent."""
    return (counts > 0) & (counts >= dead_share * counts.sum(0))


def flipped_latents(energy: Float[Tensor, "2 F"]) -> Bool[Tensor, " F"]:
    """The latents that the canonical gauge flips: those whose negative pole has more activation energy (sum of z^2)."""
    return energy[1] > energy[0]


def require_of_poles(name: str, values: object, d_sae: int) -> None:
    """Raise a ConfigError unless ``values`` are a tensor [2, d_sae], a row for each side."""
    shape = list(values.shape) if isinstance(values, Tensor) else None
    if shape != [2, d_sae]:
        given = f"is a {type(values).__name__}" if shape is None else f"has the shape {shape}"
        raise ConfigError(
            f"{name} {given}; give a tensor [2, {d_sae}], such as measure_poles(FOLDER).{name.split('_')[-1]}, "
            "positive row first."
        )
