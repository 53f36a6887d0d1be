"""Firings and energy of the two poles of each latent, and their statistics."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int
from safetensors import safe_open  # pyright: ignore[reportUnknownVariableType]
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from sae_lens_abstopk.system.files import reading

DEAD_POLE_SHARE = 0.01
HISTOGRAM_BINS = 10
POLE_ACTIVITY_FILENAME = "pole_activity.safetensors"


@dataclass(frozen=True, eq=False)
class PoleStatistics:
    """Summary of firing counts of both poles over some tokens."""

    live_latents: int
    """Number of latents that fired at all."""
    dead_poles: int
    """Number of live latents whose weaker pole has under 1 % of their firings."""
    two_sidedness: Float[Tensor, " F"]
    """min(p+, p-) / (p+ + p-) of each latent: 0 is one-sided, 0.5 even; NaN if it never fired."""

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
    """Return how often each latent fired on its positive and on its negative pole; codes may be dense or sparse."""
    if feature_acts.is_sparse:
        coalesced = feature_acts.coalesce()
        latents, values = coalesced.indices()[-1], coalesced.values()
    else:  # few are non-zero; finding them takes a quarter of the time of two sums over all
        where = feature_acts.nonzero(as_tuple=True)
        latents, values = where[-1], feature_acts[where]
    counts = latents.new_zeros(2, feature_acts.shape[-1])
    for pole, on in enumerate((values > 0, values < 0)):
        counts[pole].index_add_(0, latents, on.to(latents.dtype))
    return counts


def pole_statistics(counts: Int[Tensor, "2 F"]) -> PoleStatistics:
    """Summarise firing counts of :func:`pole_counts`, also summed over batches."""
    total = counts.sum(0)
    weaker = counts.min(0).values
    live = total > 0
    return PoleStatistics(
        live_latents=int(live.sum()),
        dead_poles=int((live & (weaker < DEAD_POLE_SHARE * total)).sum()),
        two_sidedness=torch.where(live, weaker / total.clamp(min=1), torch.nan),
    )


def live_poles(counts: Int[Tensor, "2 F"], dead_share: float = DEAD_POLE_SHARE) -> Bool[Tensor, "2 F"]:
    """Return which poles are alive: they fired, with at least ``dead_share`` of their latent's firings."""
    return (counts > 0) & (counts >= dead_share * counts.sum(0))


def flipped_latents(energy: Float[Tensor, "2 F"]) -> Bool[Tensor, " F"]:
    """Return the latents that the canonical gauge flips: their negative pole has more energy (sum of z^2)."""
    return energy[1] > energy[0]


@dataclass(eq=False)
class PoleActivity:
    """Firings and energy of both poles of every latent, summed over tokens; the positive row comes first."""

    counts: Int[Tensor, "2 F"]
    energy: Float[Tensor, "2 F"]
    """Sum of z^2 in float64."""
    n_tokens: int

    @classmethod
    def zeros(cls, d_sae: int) -> Self:
        return cls(torch.zeros(2, d_sae, dtype=torch.int64), torch.zeros(2, d_sae, dtype=torch.float64), 0)

    def update(self, codes: Float[Tensor, "... F"]) -> Self:
        """Add codes, in place."""
        flat = codes.detach().flatten(0, -2)
        where = flat.nonzero(as_tuple=True)
        latents, values = where[1].cpu(), flat[where].cpu()
        # float32 squares, float64 sums: half precision would lose the small codes
        energy = values.float().square().double()
        for pole, on in enumerate((values > 0, values < 0)):
            self.counts[pole] += torch.bincount(latents[on], minlength=flat.shape[1])
            self.energy[pole].index_add_(0, latents[on], energy[on])
        self.n_tokens += len(flat)
        return self

    def in_canonical_gauge(self) -> Self:
        """Return the activity of the SAE after ``canonical_gauge`` with these energies."""
        flipped = flipped_latents(self.energy)
        counts, energy = (torch.where(flipped, rows.flip(0), rows) for rows in (self.counts, self.energy))
        return type(self)(counts, energy, self.n_tokens)

    def save(self, folder: str | Path) -> Path:
        """Write ``pole_activity.safetensors`` into ``folder``, beside the weights."""
        path = Path(folder) / POLE_ACTIVITY_FILENAME
        tensors = {"counts": self.counts.contiguous(), "energy": self.energy.contiguous()}
        save_file(tensors, path, metadata={"n_tokens": json.dumps(self.n_tokens)})
        return path

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Load the activity that :meth:`save` wrote; raise a ConfigError if it is missing or damaged."""
        path = Path(folder) / POLE_ACTIVITY_FILENAME
        with reading(path, "measure_poles() measures anew"):
            opened: Any = safe_open(path, framework="pt")
            with opened as file:
                n_tokens = json.loads(file.metadata()["n_tokens"])
                return cls(file.get_tensor("counts"), file.get_tensor("energy"), n_tokens)
