"""Select by magnitude, per token and over a batch, without holding all pre-activations [B, F] at once."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_lens_abstopk.sparse.candidates import find_candidates
from sae_lens_abstopk.sparse.codes import SparseCodes, count_each, even_offsets, offsets_of
from sae_lens_abstopk.sparse.encoder import EncoderWeights, Pool, top_entries
from sae_lens_abstopk.system.ranks import any_rank, n_ranks, nth_highest


@torch.no_grad()
def select_per_token(encoder: EncoderWeights, x_BD: Float[Tensor, "B D"], k: int) -> SparseCodes:
    """Select the k highest entries of each token, with values u (before ``scale``); one-sided ones if positive."""
    found = find_candidates(encoder, x_BD, k, per_token=True)
    if found is None:
        latents, values = top_entries(encoder, x_BD, k)[:2]
    else:
        latents, values, unproven = found.of_each(k)
        if len(unproven):
            latents[unproven], values[unproven] = top_entries(encoder, x_BD[unproven], k)[:2]
    codes = SparseCodes(values.flatten(), latents.flatten(), even_offsets(len(x_BD), k, x_BD.device))
    if encoder.n_signed is None or encoder.all_signed:
        return codes
    return codes.where((codes.values > 0) | (codes.latents < encoder.n_signed))


@torch.no_grad()
def select_over_batch(encoder: EncoderWeights, x_BD: Float[Tensor, "B D"], n_keep: int) -> SparseCodes:
    """
    Select the ``n_keep`` highest entries of the whole batch, exactly, with values u (before ``scale``).

    If candidates prove nothing, the pool has the best entries of each token, twice the mean number to keep; a token
    that may need more is computed again for twice as many.
    """
    n_tokens, d_sae = len(x_BD), encoder.W_enc.shape[1]
    found = find_candidates(encoder, x_BD, n_keep, per_token=False)
    if found is not None:
        best = found.entries.best(n_keep)
        if len(best.values) == n_keep and best.values.min() >= found.limit_B.max():
            return codes_of(encoder, found.entries, best.indices, n_tokens)
    tokens = torch.arange(n_tokens, device=x_BD.device)
    width = min(d_sae, 2 * -(-n_keep // max(n_tokens, 1)))
    top = top_entries(encoder, x_BD, width)
    pool = Pool.of(tokens, top)
    best = pool.best(n_keep)
    while n_tokens and width < d_sae:
        tokens = tokens[(top.bound >= best.values.min()) & (top.bound > 0)]
        if len(tokens) == 0:
            break
        width = min(d_sae, 2 * width)
        top = top_entries(encoder, x_BD[tokens], width)
        pool = pool.replaced(tokens, top, n_tokens)
        best = pool.best(n_keep)
    return codes_of(encoder, pool, best.indices, n_tokens)


@torch.no_grad()
def select_over_ranks(encoder: EncoderWeights, x_BD: Float[Tensor, "B D"], n_keep: int) -> SparseCodes:
    """
    Select this rank's part of the ``n_keep`` highest entries over all ranks, without sending entries.

    Every rank holds a part of the pre-activations [B, F] of a batch: other tokens (data parallelism) or other latents
    (``encoder`` is then a shard of the columns, with its own latent numbers). Works like :func:`select_over_batch`,
    until no rank has a token to compute again. Ties for the last place are all kept.
    """
    n_tokens, d_sae = len(x_BD), encoder.W_enc.shape[1]
    share = -(-n_keep // n_ranks())
    tokens = torch.arange(n_tokens, device=x_BD.device)
    found = find_candidates(encoder, x_BD, share, per_token=False)
    if found is not None:
        pool, bound, width = found.entries, found.limit_B, -(-share // n_tokens)
    else:
        width = min(d_sae, 2 * -(-share // n_tokens))
        top = top_entries(encoder, x_BD, width)
        pool, bound = Pool.of(tokens, top), top.bound
    while True:
        # never above the final threshold: a larger pool only raises it
        least_kept = nth_highest(pool.scores, n_keep)
        tokens = tokens[(bound >= least_kept) & (bound > 0)] if width < d_sae else tokens[:0]
        if not any_rank(len(tokens) > 0):
            break
        bound = bound[:0]
        if len(tokens):
            width = min(d_sae, 2 * width)
            top = top_entries(encoder, x_BD[tokens], width)
            pool, bound = pool.replaced(tokens, top, n_tokens), top.bound
    kept = ((pool.scores >= least_kept) & (pool.scores > 0)).nonzero().squeeze(1)
    return codes_of(encoder, pool, kept, n_tokens)


def codes_of(encoder: EncoderWeights, pool: Pool, kept: Int[Tensor, " N"], n_tokens: int) -> SparseCodes:
    """Return the ``kept`` entries of a pool, ordered by token, without those that cannot be on."""
    if not encoder.all_signed:
        kept = kept[pool.scores[kept] > 0]
    kept = kept[pool.rows[kept].argsort()]
    counts = count_each(pool.rows[kept], n_tokens)
    return SparseCodes(pool.values[kept], pool.latents[kept], offsets_of(counts))
