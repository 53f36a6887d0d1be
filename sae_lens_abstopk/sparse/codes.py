"""Sparse codes: the active latents of each token."""

from typing import NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class SparseCodes(NamedTuple):
    """
    The active entries of codes [B, F], ordered by token.

    Shape letters in this folder: B tokens, D d_in, F d_sae, K latents per token, N entries in all.
    """

    values: Float[Tensor, " N"]
    latents: Int[Tensor, " N"]
    offsets: Int[Tensor, " B+1"]
    """Token b owns the entries ``offsets[b]`` to ``offsets[b + 1]``."""

    @property
    def rows(self) -> Int[Tensor, " N"]:
        """Token of each entry."""
        counts = self.offsets.diff()
        tokens = torch.arange(len(counts), device=counts.device)
        return torch.repeat_interleave(tokens, counts, output_size=len(self.latents))

    def between(self, start: int, stop: int) -> "SparseCodes":
        """Return the entries of the latents ``start`` to ``stop - 1``."""
        return self.where((self.latents >= start) & (self.latents < stop))

    def where(self, keep: Bool[Tensor, " N"]) -> "SparseCodes":
        """Keep the entries for which ``keep`` is true."""
        kept = keep.nonzero().squeeze(1)  # only once, because the host waits for a GPU to count them
        counts = count_each(self.rows[kept], len(self.offsets) - 1)
        return SparseCodes(self.values[kept], self.latents[kept], offsets_of(counts))

    def scaled(self, scale: Float[Tensor, " F"] | None) -> "SparseCodes":
        """Multiply each value by the ``scale`` of its latent."""
        return self if scale is None else self._replace(values=self.values * scale[self.latents])

    def to_coo(self, d_sae: int) -> Float[Tensor, "B F"]:
        """Convert to a sparse COO tensor."""
        size = (len(self.offsets) - 1, d_sae)
        indices = torch.stack([self.rows, self.latents])
        # entries are unique; the flag saves a sort, and sums and casts do not need the order within a token
        return torch.sparse_coo_tensor(indices, self.values, size, is_coalesced=True, check_invariants=False)


def count_each(indices: Int[Tensor, " N"], n: int) -> Int[Tensor, " n"]:
    """Count each number below ``n``; unlike ``bincount``, the host does not wait for the GPU."""
    return indices.new_zeros(n).index_add_(0, indices, torch.ones_like(indices))


def offsets_of(counts: Int[Tensor, " n"]) -> Int[Tensor, " n+1"]:
    """Return the offsets of groups of the given sizes."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def even_offsets(n_tokens: int, k: int, device: torch.device) -> Int[Tensor, " _"]:
    """Return the offsets of tokens that own k entries each."""
    return torch.arange(n_tokens + 1, device=device) * k


def row_norms(rows: Float[Tensor, "n D"]) -> Float[Tensor, " n"]:
    """Return Euclidean norms, computed as SAELens does for decoder rows."""
    return cast(Tensor, rows.norm(dim=-1))
