"""Statistics of firings in bounded memory: histograms of |code|, and latents that fire together."""

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from scipy.sparse import csr_array

from sae_lens_abstopk.explorer.latents import Cofiring
from sae_lens_abstopk.model.contexts import CodeBatch

OCTAVES, BINS_PER_OCTAVE = 10, 16
LEAST_TOGETHER = 5
BLOCK = 256


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
        bins = (strengths / self.limit[latents] * self.bins).long()
        _count(self.counts, poles, latents, bins)


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
        before, seen = self.exponent, self.largest.amax(0) > 0
        flat = poles * self.largest.shape[1] + latents
        self.largest.view(-1).scatter_reduce_(0, flat, strengths, "amax")
        octaves = torch.where(seen, self.exponent - before, 0).clamp(max=OCTAVES)
        while len(grown := octaves.nonzero()[:, 0]):
            moved = self.counts[:, grown].roll(-BINS_PER_OCTAVE, dims=-1)
            moved[..., 0] += moved[..., -BINS_PER_OCTAVE:].sum(-1, dtype=torch.int32)
            moved[..., -BINS_PER_OCTAVE:] = 0
            self.counts[:, grown] = moved
            octaves[grown] -= 1
        bins = ((strengths.log2() - self.exponent[latents]) * BINS_PER_OCTAVE).floor().long()
        _count(self.counts, poles, latents, self.counts.shape[-1] + bins)

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


def _count(counts: torch.Tensor, poles: torch.Tensor, latents: torch.Tensor, bins: torch.Tensor) -> None:
    """Add one to ``counts`` [2, d_sae, bins] for each firing, in the nearest bin that exists."""
    _, d_sae, n_bins = counts.shape
    index = (poles * d_sae + latents) * n_bins + bins.clamp(0, n_bins - 1)
    counts.view(-1).index_add_(0, index, torch.ones_like(index, dtype=torch.int32))


class CofiringSample:
    """Signs of the codes on a random sample of one token in ``one_in``, up to ``n_tokens`` in all."""

    def __init__(self, d_sae: int, n_tokens: int, *, one_in: int) -> None:
        self.d_sae, self.n_tokens, self.one_in = d_sae, n_tokens, one_in
        self.tokens_seen = 0
        """Tokens in the sample."""
        self._rows: list[torch.Tensor] = []
        self._latents: list[torch.Tensor] = []
        self._positive: list[torch.Tensor] = []

    def add(self, batch: CodeBatch, generator: torch.Generator) -> None:
        n = min(-(-batch.n_tokens // self.one_in), self.n_tokens - self.tokens_seen)
        if n <= 0:
            return
        new_row = torch.full((batch.n_tokens,), -1)
        new_row[torch.randperm(batch.n_tokens, generator=generator)[:n]] = torch.arange(n) + self.tokens_seen
        rows = new_row[batch.firings.rows]
        taken = rows >= 0
        self._rows.append(rows[taken].int())
        self._latents.append(batch.firings.latents[taken].int())
        self._positive.append(batch.firings.values[taken] > 0)
        self.tokens_seen += n

    def top(self, n: int) -> Iterator[list[Cofiring]]:
        """Return for each latent the ``n`` others of largest overlap, with at least 5 joint firings; ties by index."""
        rows, latents, positive = (torch.cat(parts).numpy() for parts in (self._rows, self._latents, self._positive))
        shape = (self.tokens_seen, self.d_sae)
        on = csr_array((np.ones(len(rows), dtype=np.float32), (rows, latents)), shape=shape)
        signs = csr_array((np.where(positive, 1, -1).astype(np.float32), (rows, latents)), shape=shape)
        fires = np.asarray(on.sum(axis=0)).ravel()
        on_columns, sign_columns = on.tocsc(), signs.tocsc()
        # one latent with all others, because a sparse product leaves out entries that sum to 0
        agreement_row = np.zeros(self.d_sae, dtype=np.float32)
        for start in range(0, self.d_sae, BLOCK):
            block = slice(start, start + BLOCK)
            together, agreement = on_columns[:, block].T @ on, sign_columns[:, block].T @ signs
            for latent, row, signed_row in zip(
                range(start, self.d_sae), pairwise(together.indptr), pairwise(agreement.indptr), strict=False
            ):
                others, times = together.indices[slice(*row)], together.data[slice(*row)]
                often = (times >= LEAST_TOGETHER) & (others != latent)
                others, times = others[often], times[often]
                overlap = times / np.sqrt(fires[latent] * fires[others])
                best = np.lexsort((others, -overlap))[:n]
                signed_others = agreement.indices[slice(*signed_row)]
                agreement_row[signed_others] = agreement.data[slice(*signed_row)]
                same_side = (1 + agreement_row[others[best]] / times[best]) / 2
                agreement_row[signed_others] = 0
                yield list(map(Cofiring, others[best].tolist(), overlap[best].tolist(), same_side.tolist()))
