"""Pairs of latents that fire together, on the same or on opposite sides, counted on a sample of tokens."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array

from sae_lens_abstopk.dictionary.code_batch import CodeBatch

BLOCK = 256
# one token in this many is sampled
ONE_IN = 8
# a pair needs this many joint firings
LEAST_TOGETHER = 5


class Cofiring(NamedTuple):
    """A latent that often fires together with another."""

    latent: int
    overlap: float
    """c_ij / sqrt(c_i c_j): joint firings over the geometric mean of both counts, between 0 and 1."""
    same_side: float
    """Share of joint firings with equal signs."""


class CofiringSample:
    """Signs of the codes on a random sample of one token in ``ONE_IN``, up to ``n_tokens`` in all."""

    def __init__(self, d_sae: int, n_tokens: int) -> None:
        self.d_sae, self.n_tokens = d_sae, n_tokens
        self.tokens_seen = 0
        """Tokens in the sample."""
        self._rows: list[torch.Tensor] = []
        self._latents: list[torch.Tensor] = []
        self._positive: list[torch.Tensor] = []

    def add(self, batch: CodeBatch, generator: torch.Generator) -> None:
        n = min(-(-batch.n_tokens // ONE_IN), self.n_tokens - self.tokens_seen)
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
        shape = (max(self.tokens_seen, 1), self.d_sae)
        rows, latents, positive = (
            torch.cat(parts).numpy() if parts else np.empty(0, dtype=np.int32)
            for parts in (self._rows, self._latents, self._positive)
        )
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
