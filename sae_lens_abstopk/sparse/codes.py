"""Codes as the latents that are on, token by token."""

from typing import NamedTuple

import torch


class SparseCodes(NamedTuple):
    """
    The active entries of codes [B, F], ordered by token: N of them in all.

    Shape letters here and in the other files of this folder: B tokens, D d_in, F d_sae, K latents per token, N entries.
    """

    values: torch.Tensor
    """Value of each entry, [N]."""
    latents: torch.Tensor
    """Latent of each entry, int64 [N]."""
    offsets: torch.Tensor
    """Token b owns the entries ``offsets[b]`` to ``offsets[b + 1]``: int64 [B + 1]."""

    @property
    def rows(self) -> torch.Tensor:
        """Token of each entry, int64 [N]."""
        counts = self.offsets.diff()
        tokens = torch.arange(len(counts), device=counts.device)
        return torch.repeat_interleave(tokens, counts, output_size=len(self.latents))

    def between(self, start: int, stop: int) -> "SparseCodes":
        """The entries of the latents from ``start`` up to but not including ``stop``."""
        return self.where((self.latents >= start) & (self.latents < stop))

    def where(self, keep: torch.Tensor) -> "SparseCodes":
        """The entries for which the boolean ``keep`` [N] is true."""
        kept = keep.nonzero().squeeze(1)  # once: a GPU's host waits for how many there are
        counts = count_each(self.rows[kept], len(self.offsets) - 1)
        return SparseCodes(self.values[kept], self.latents[kept], offsets_of(counts))

    def scaled(self, scale: torch.Tensor | None) -> "SparseCodes":
        """Each value times the ``scale`` [F] of its latent."""
        return self if scale is None else self._replace(values=self.values * scale[self.latents])

    def to_coo(self, d_sae: int) -> torch.Tensor:
        """Codes [B, F] as a sparse COO tensor."""
        size = (len(self.offsets) - 1, d_sae)
        indices = torch.stack([self.rows, self.latents])
        # every entry is there once; the flag saves a sort, and sums and casts do not need the order within a token
        return torch.sparse_coo_tensor(indices, self.values, size, is_coalesced=True, check_invariants=False)


def count_each(indices: torch.Tensor, n: int) -> torch.Tensor:
    """How often each number under ``n`` occurs, int64 [n]; unlike ``bincount``, a GPU's host does not wait for it."""
    return indices.new_zeros(n).index_add_(0, indices, torch.ones_like(indices))


def offsets_of(counts: torch.Tensor) -> torch.Tensor:
    """Offsets of groups of the given sizes, int64 [len(counts) + 1]."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def even_offsets(n_tokens: int, k: int, device: torch.device) -> torch.Tensor:
    """Offsets of tokens that own k entries each."""
    return torch.arange(n_tokens + 1, device=device) * k
