"""Histograms of |code| for both poles of every latent, over a range that grows with the codes."""

import math

import torch

OCTAVES, BINS_PER_OCTAVE = 10, 16


class GrowingHistograms:
    """
    Counts of |code| in ``bins`` equal bins from 0 to ``limit``, a power of two that both poles of a latent share.

    When a code exceeds the limit, the limit doubles and neighbouring bins merge.
    """

    def __init__(self, d_sae: int, bins: int = 32) -> None:
        self.bins = bins
        self.counts = torch.zeros(2, d_sae, bins, dtype=torch.int32)
        """Pole 0 is positive."""
        self.limit = torch.zeros(d_sae)

    def add(self, poles: torch.Tensor, latents: torch.Tensor, strengths: torch.Tensor) -> None:
        """Add firings: poles, latents and |code| [N] each; no code is 0."""
        largest = torch.zeros_like(self.limit).scatter_reduce_(0, latents, strengths, "amax")
        new = (self.limit == 0) & (largest > 0)
        smallest = torch.finfo(torch.float32).tiny
        self.limit[new] = torch.exp2(largest[new].log2().ceil()).clamp(min=smallest)
        while len(small := (largest > self.limit).nonzero()[:, 0]):
            merged = self.counts[:, small].unflatten(-1, (-1, 2)).sum(-1, dtype=torch.int32)
            self.counts[:, small] = torch.cat([merged, torch.zeros_like(merged)], dim=-1)
            self.limit[small] *= 2
        index = (strengths / self.limit[latents] * self.bins).long().clamp(max=self.bins - 1)
        flat = (poles * len(self.limit) + latents) * self.bins + index
        self.counts.view(-1).index_add_(0, flat, torch.ones_like(flat, dtype=torch.int32))


class LogHistograms:
    """
    Counts of |code| in equal bins of its logarithm, below a power of two that both poles of a latent share.

    A bin is 4.4 % wide; codes below a 980th of the largest share the lowest bin.
    """

    def __init__(self, d_sae: int) -> None:
        self.counts = torch.zeros(2, d_sae, OCTAVES * BINS_PER_OCTAVE, dtype=torch.int32)
        """Pole 0 is positive."""
        self.largest = torch.zeros(2, d_sae)
        """The largest |code|."""

    @property
    def exponent(self) -> torch.Tensor:
        """Base-2 logarithm of the upper limit of each latent: [d_sae]."""
        return torch.frexp(self.largest.amax(0))[1]

    def add(self, poles: torch.Tensor, latents: torch.Tensor, strengths: torch.Tensor) -> None:
        """Add firings: poles, latents and |code| [N] each; no code is 0."""
        before, seen, d_sae = self.exponent, self.largest.amax(0) > 0, self.largest.shape[1]
        flat = poles * d_sae + latents
        self.largest.view(-1).scatter_reduce_(0, flat, strengths, "amax")
        octaves = torch.where(seen, self.exponent - before, 0).clamp(max=OCTAVES)
        while len(grown := octaves.nonzero()[:, 0]):
            moved = self.counts[:, grown].roll(-BINS_PER_OCTAVE, dims=-1)
            moved[..., 0] += moved[..., -BINS_PER_OCTAVE:].sum(-1, dtype=torch.int32)
            moved[..., -BINS_PER_OCTAVE:] = 0
            self.counts[:, grown] = moved
            octaves[grown] -= 1
        n_bins = self.counts.shape[-1]
        bins = n_bins + ((strengths.log2() - self.exponent[latents]) * BINS_PER_OCTAVE).floor().long()
        index = flat * n_bins + bins.clamp(0, n_bins - 1)
        self.counts.view(-1).index_add_(0, index, torch.ones_like(index, dtype=torch.int32))

    def quantile(self, q: float, pole: int | None = None) -> torch.Tensor:
        """Return the ``q``-quantile of |code| over one or both poles, to within a bin: [d_sae]; 0 without firings."""
        cumulative = (self.counts.sum(0) if pole is None else self.counts[pole]).double().cumsum(-1)
        wanted = q * cumulative[:, -1:]
        bin_ = (cumulative < wanted).sum(-1)
        below = torch.where(bin_ > 0, cumulative.gather(1, (bin_ - 1).clamp(min=0)[:, None])[:, 0], 0.0)
        inside = cumulative.gather(1, bin_[:, None])[:, 0] - below
        share = torch.where(inside > 0, (wanted[:, 0] - below) / inside.clamp(min=1), 0.0)
        octaves = (bin_ + share - self.counts.shape[-1]) / BINS_PER_OCTAVE
        largest = self.largest.amax(0) if pole is None else self.largest[pole]
        return torch.exp2(octaves + self.exponent).float().minimum(largest)

    def share_below(self, pole: int, latent: int, strength: float) -> float:
        """Return the share of a pole's firings weaker than ``strength``, to within a bin; NaN if it never fired."""
        counts = self.counts[pole, latent].tolist()
        total = sum(counts)
        if total == 0:
            return math.nan
        octaves = math.log2(strength) - math.frexp(float(self.largest[:, latent].max()))[1]
        place = min(max(len(counts) + octaves * BINS_PER_OCTAVE, 0.0), len(counts))
        whole = int(place)
        part = counts[whole] * (place - whole) if whole < len(counts) else 0.0
        return min(sum(counts[:whole]) + part, total - 1) / total  # a firing is not weaker than itself
