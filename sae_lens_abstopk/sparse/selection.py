"""Selection by magnitude: per token and over a batch, without ever holding all pre-activations [B, F] at once."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from sae_lens_abstopk.sparse.codes import SparseCodes, even_offsets, offsets_of

# Pre-activations held at a time. On a CPU a block stays in its cache; on a GPU it only has to fit.
CPU_BLOCK, CUDA_BLOCK = 2**22, 2**27


class EncoderWeights(NamedTuple):
    """The affine map that selection looks at: u = x @ W_enc + b_enc, ranked by |u * scale|."""

    W_enc: torch.Tensor
    """[D, F]."""
    b_enc: torch.Tensor
    """[F]."""
    scale: torch.Tensor | None = None
    """[F], the decoder norms where codes are rescaled by them."""
    signed: bool = True
    """Rank by magnitude; otherwise by value, and entries that are not positive are left out (as TopK does)."""

    def blocks(self, x_BD: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Pre-activations u and rank scores of block after block of tokens, both [b, F]."""
        budget = CUDA_BLOCK if x_BD.is_cuda else CPU_BLOCK
        rows = max(1, budget // self.W_enc.shape[1])
        for start in range(0, len(x_BD), rows):
            u_bF = torch.addmm(self.b_enc, x_BD[start : start + rows], self.W_enc)
            score_bF = u_bF if self.scale is None else u_bF * self.scale
            yield u_bF, score_bF.abs() if self.signed else score_bF.relu()


@torch.no_grad()
def select_per_token(encoder: EncoderWeights, x_BD: torch.Tensor, k: int) -> SparseCodes:
    """The k entries of each token of x [B, D] that rank highest, with their u as values (before ``scale``)."""
    values, latents = [], []
    for u_bF, score_bF in encoder.blocks(x_BD):
        best_bK = score_bF.topk(k, sorted=False).indices
        values.append(u_bF.gather(1, best_bK))
        latents.append(best_bK)
    kept = torch.cat(values).flatten()
    codes = SparseCodes(kept, torch.cat(latents).flatten(), even_offsets(len(x_BD), k, x_BD.device))
    return codes if encoder.signed else codes.where(codes.values > 0)


@torch.no_grad()
def select_over_batch(encoder: EncoderWeights, x_BD: torch.Tensor, n_keep: int) -> SparseCodes:
    """
    The ``n_keep`` entries of the whole batch that rank highest, with their u as values (before ``scale``).

    Each token offers its best entries, twice the mean number that will be kept; a token whose last offer would still be
    kept may have more to offer, and is asked again for twice as many. What is left is exact.
    """
    n_tokens, d_sae = len(x_BD), encoder.W_enc.shape[1]
    width = min(d_sae, 2 * -(-n_keep // n_tokens))
    asked = torch.arange(n_tokens, device=x_BD.device)
    offers = _offers(encoder, x_BD, asked, width)
    pool = offers.pool()
    while width < d_sae:
        least_kept = pool.scores.topk(min(n_keep, len(pool.scores)), sorted=False).values.min()
        last_offers = offers.scores_bW.amin(1)
        asked = asked[(last_offers >= least_kept) & (last_offers > 0)]
        if len(asked) == 0:
            break
        width = min(d_sae, 2 * width)
        offers = _offers(encoder, x_BD, asked, width)
        pool = pool.without(asked, n_tokens).joined_with(offers.pool())
    kept = pool.scores.topk(min(n_keep, len(pool.scores)), sorted=False).indices
    if not encoder.signed:
        kept = kept[pool.scores[kept] > 0]
    kept = kept[pool.rows[kept].argsort()]
    counts = torch.bincount(pool.rows[kept], minlength=n_tokens)
    return SparseCodes(pool.values[kept], pool.latents[kept], offsets_of(counts))


class _Pool(NamedTuple):
    """Entries that tokens offer, in no order: [n] each."""

    rows: torch.Tensor
    latents: torch.Tensor
    values: torch.Tensor
    scores: torch.Tensor

    def without(self, rows: torch.Tensor, n_tokens: int) -> "_Pool":
        out = torch.zeros(n_tokens, dtype=torch.bool, device=rows.device)
        out[rows] = True
        keep = ~out[self.rows]
        return _Pool(*(part[keep] for part in self))

    def joined_with(self, other: "_Pool") -> "_Pool":
        return _Pool(*(torch.cat(parts) for parts in zip(self, other, strict=True)))


class _Offers(NamedTuple):
    """The best entries of some tokens, ``width`` each: [b] rows and [b, width] entries."""

    rows_b: torch.Tensor
    latents_bW: torch.Tensor
    values_bW: torch.Tensor
    scores_bW: torch.Tensor

    def pool(self) -> _Pool:
        rows = self.rows_b.repeat_interleave(self.latents_bW.shape[1])
        return _Pool(rows, self.latents_bW.flatten(), self.values_bW.flatten(), self.scores_bW.flatten())


def _offers(encoder: EncoderWeights, x_BD: torch.Tensor, rows_b: torch.Tensor, width: int) -> _Offers:
    blocks = []
    for u_bF, score_bF in encoder.blocks(x_BD if len(rows_b) == len(x_BD) else x_BD[rows_b]):
        best = score_bF.topk(width, sorted=False)
        blocks.append((best.indices, u_bF.gather(1, best.indices), best.values))
    return _Offers(rows_b, *(torch.cat(parts) for parts in zip(*blocks, strict=True)))
