"""Selection over several processes: exactly the entries that one process would keep, without sending any of them."""

import torch

from sae_lens_abstopk.sparse.codes import SparseCodes
from sae_lens_abstopk.sparse.selection import EncoderWeights, Pool, best_offers, codes_of, find_candidates
from sae_lens_abstopk.system.ranks import any_rank, n_ranks, nth_highest


@torch.no_grad()
def select_over_ranks(encoder: EncoderWeights, x_BD: torch.Tensor, n_keep: int) -> SparseCodes:
    """
    This rank's part of the ``n_keep`` entries that rank highest over all ranks.

    Every rank holds a part of the pre-activations [B, F] of a batch: other tokens (data parallelism) or other latents
    (``encoder`` is then a shard of the columns, and the latents are counted within it). As in
    :func:`~sae_lens_abstopk.sparse.select_over_batch` each token offers its best entries, and one that may have more to
    offer is asked again, until that is so on no rank. Where entries tie for the last place, all of them are kept.
    """
    n_tokens, d_sae = len(x_BD), encoder.W_enc.shape[1]
    share = -(-n_keep // n_ranks())
    asked = torch.arange(n_tokens, device=x_BD.device)
    found = find_candidates(encoder, x_BD, share, per_token=False)
    if found is not None:
        pool, bound, width = found.entries, found.limit_B, -(-share // n_tokens)
    else:
        width = min(d_sae, 2 * -(-share // n_tokens))
        offers = best_offers(encoder, x_BD, width)
        pool, bound = Pool.of(asked, offers), offers.bound
    while True:
        # never above the final one, as more offers only raise it
        least_kept = nth_highest(pool.scores, n_keep)
        asked = asked[(bound >= least_kept) & (bound > 0)] if width < d_sae else asked[:0]
        if not any_rank(len(asked) > 0):
            break
        bound = bound[:0]
        if len(asked):
            width = min(d_sae, 2 * width)
            offers = best_offers(encoder, x_BD[asked], width)
            pool, bound = pool.without(asked, n_tokens).joined_with(Pool.of(asked, offers)), offers.bound
    kept = ((pool.scores >= least_kept) & (pool.scores > 0)).nonzero().squeeze(1)
    return codes_of(encoder, pool, kept, n_tokens)
