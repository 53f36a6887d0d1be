"""Which latents are on together, and whether on the same side, counted over a sample of tokens."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array

from sae_lens_abstopk.dictionary.code_batch import CodeBatch

BLOCK = 256
# tokens that are taken of a batch at most
PER_BATCH = 64
# fewer joint firings than this say nothing
LEAST_TOGETHER = 5


class Cofiring(NamedTuple):
    """One latent that is often on together with another."""

    latent: int
    overlap: float
    """c_ij / sqrt(c_i c_j): joint firings over the geometric mean of each one's firings, between 0 and 1."""
    same_side: float
    """Share of the joint firings in which both codes have the same sign."""


class CofiringSample:
    """The signs of the codes on the first tokens shown of a batch, up to ``n_tokens`` in all."""

    def __init__(self, d_sae: int, n_tokens: int) -> None:
        self.d_sae, self.n_tokens = d_sae, n_tokens
        self._tokens_seen = 0
        self._rows: list[torch.Tensor] = []
        self._latents: list[torch.Tensor] = []
        self._positive: list[torch.Tensor] = []

    def add(self, batch: CodeBatch, generator: torch.Generator) -> None:
        """Take some tokens of a batch at random, or none once there are enough."""
        n = min(PER_BATCH, self.n_tokens - self._tokens_seen, batch.n_tokens)
        if n <= 0:
            return
        new_row = torch.full((batch.n_tokens,), -1)
        new_row[torch.randperm(batch.n_tokens, generator=generator)[:n]] = torch.arange(n) + self._tokens_seen
        rows = new_row[batch.firings.rows]
        taken = rows >= 0
        self._rows.append(rows[taken].int())
        self._latents.append(batch.firings.latents[taken].int())
        self._positive.append(batch.firings.values[taken] > 0)
        self._tokens_seen += n

    def top(self, n: int) -> Iterator[list[Cofiring]]:
        """Latent by latent, the ``n`` others of largest overlap that were on together with it at least 5 times."""
        shape = (max(self._tokens_seen, 1), self.d_sae)
        rows, latents, positive = (
            torch.cat(parts).numpy() if parts else np.empty(0, dtype=np.int32)
            for parts in (self._rows, self._latents, self._positive)
        )
        on = csr_array((np.ones(len(rows), dtype=np.float32), (rows, latents)), shape=shape)
        signs = csr_array((np.where(positive, 1, -1).astype(np.float32), (rows, latents)), shape=shape)
        fires = np.asarray(on.sum(axis=0)).ravel()
        on_columns, sign_columns = on.tocsc(), signs.tocsc()
        for start in range(0, self.d_sae, BLOCK):
            stop = min(start + BLOCK, self.d_sae)
            together = (on_columns[:, start:stop].T @ on).toarray()
            agreement = (sign_columns[:, start:stop].T @ signs).toarray()
            overlap = together / np.sqrt(np.maximum(fires[start:stop, None] * fires[None], 1))
            overlap[together < LEAST_TOGETHER] = 0
            overlap[np.arange(stop - start), np.arange(start, stop)] = 0
            kept = min(n, self.d_sae)
            best = np.argpartition(-overlap, kept - 1, axis=1)[:, :kept]
            for i, row in enumerate(best):
                yield [
                    Cofiring(
                        latent=int(j),
                        overlap=float(overlap[i, j]),
                        same_side=float((1 + agreement[i, j] / together[i, j]) / 2),
                    )
                    for j in sorted(row, key=lambda j: (-overlap[i, j], j))
                    if overlap[i, j] > 0
                ]

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` takes."""
        return {
            "seen": self._tokens_seen,
            "rows": self._rows,
            "latents": self._latents,
            "positive": self._positive,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self._tokens_seen = state["seen"]
        self._rows, self._latents, self._positive = (list(state[key]) for key in ("rows", "latents", "positive"))
