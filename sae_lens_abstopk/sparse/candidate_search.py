"""The pool of entries for a selection, and its search in half precision."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_lens_abstopk.sparse.candidates import SLACK, HalfPrecisionEncoder, dot_products
from sae_lens_abstopk.sparse.codes import count_each, offsets_of
from sae_lens_abstopk.sparse.encoder import EncoderWeights, TopEntries

# tokens probed first, to estimate the lowest kept score
PROBED_TOKENS = 64
# for fewer tokens, rounding the weights costs more than it saves (`experiments/speed/step_time.py --inference`)
LEAST_TOKENS = 768
# share of the probed tokens whose k-th score may be below the limit; such tokens are computed again
BELOW_LIMIT = 0.02
# over a batch the limit allows for so many times more entries: too high a limit would redo the whole batch
KEPT_MARGIN = 1.3
# give up the search if it finds more than this share of the latents
MOST_CANDIDATES = 0.25
# tokens with more candidates than so many times the mean are computed again, so that rows stay narrow
MOST_TIMES_MEAN = 4


class Pool(NamedTuple):
    """Unordered entries of tokens."""

    rows: Int[Tensor, " N"]
    latents: Int[Tensor, " N"]
    values: Float[Tensor, " N"]
    scores: Float[Tensor, " N"]

    @classmethod
    def of(cls, rows: Int[Tensor, " B"], top: TopEntries) -> "Pool":
        """Make a pool of the top entries of the tokens ``rows``."""
        entries = (part.flatten() for part in (top.latents, top.values, top.scores))
        return cls(rows.repeat_interleave(top.latents.shape[1]), *entries)

    def best(self, n: int) -> torch.return_types.topk:
        """Return the scores and places of the ``n`` highest entries, or of all if there are fewer."""
        return self.scores.topk(min(n, len(self.scores)), sorted=False)

    def replaced(self, rows: Int[Tensor, " B"], top: TopEntries, n_tokens: int) -> "Pool":
        """Replace the entries of the tokens ``rows`` by their top entries."""
        out = torch.zeros(n_tokens, dtype=torch.bool, device=rows.device)
        out[rows] = True
        keep = ~out[self.rows]
        new = Pool.of(rows, top)
        return Pool(*(torch.cat([old[keep], added]) for old, added in zip(self, new, strict=True)))


class Candidates(NamedTuple):
    """Candidate entries, ordered by token, and a bound on all others."""

    entries: Pool
    offsets: Int[Tensor, " B+1"]
    """Token b owns the entries ``offsets[b]`` to ``offsets[b + 1]``."""
    limit_B: Float[Tensor, " B"]
    """Bound: every other entry of the token ranks lower."""

    def of_each(self, k: int) -> tuple[Int[Tensor, "B k"], Float[Tensor, "B k"], Int[Tensor, " u"]]:
        """Return the latents and values of each token's k best entries, and which tokens may have better ones."""
        counts = self.offsets.diff()
        place = torch.arange(len(self.entries.rows), device=counts.device) - self.offsets[self.entries.rows]
        width = max(int(counts.max()), k)
        widest = max(MOST_TIMES_MEAN * math.ceil(len(self.entries.rows) / len(counts)), k)
        rows, scores, limit_B = self.entries.rows, self.entries.scores, self.limit_B
        if width > widest:  # an outlier token would widen all rows
            width, there = widest, place < widest
            rows, place, scores = rows[there], place[there], scores[there]
            limit_B = limit_B.where(counts <= widest, torch.inf)
        scores_BW = self.entries.scores.new_full((len(counts), width), -1)
        scores_BW[rows, place] = scores
        best = scores_BW.topk(k, sorted=False)
        # clamp places of missing entries; their tokens are not proven anyway
        chosen = (self.offsets[:-1, None] + best.indices).clamp_(max=max(len(self.entries.rows) - 1, 0))
        unproven = best.values.amin(1) < limit_B
        return self.entries.latents[chosen], self.entries.values[chosen], unproven.nonzero().squeeze(1)


def find_candidates(
    encoder: EncoderWeights, x_BD: Float[Tensor, "B D"], n_keep: int, *, per_token: bool
) -> Candidates | None:
    """
    Find candidates in bfloat16 and compute them in float32; usually enough to prove the choice.

    A sample of tokens gives a rough limit for kept scores; every entry that may reach it is a candidate. Returns None
    if ``encoder.half_precision`` is off, or if the search would not save time.

    Args:
        encoder: The map and its ranking.
        x_BD: float32.
        n_keep: Number of entries to keep, per token or in all.
        per_token: Whether ``n_keep`` is per token.
    """
    if not encoder.half_precision or x_BD.dtype != torch.float32 or len(x_BD) < LEAST_TOKENS:
        return None
    W_FD = encoder.W_enc.T.contiguous()
    half = HalfPrecisionEncoder.of(x_BD, W_FD, encoder.b_enc, encoder.scale)
    score = encoder.scores_  # scaled like the rows of the half-precision encoder
    sample = torch.arange(0, len(x_BD), max(1, len(x_BD) // PROBED_TOKENS), device=x_BD.device)
    probed = half.scores(sample, score)
    limit_B1 = half.norms_B1.float()  # a token's limit grows with its norm; the batch's limit does not
    if per_token:
        kept = probed.topk(n_keep, sorted=False).values.amin(1).float()
        limit_B1 *= (kept / limit_B1[sample, 0]).quantile(BELOW_LIMIT)
    else:
        n_kept = min(math.ceil(KEPT_MARGIN * n_keep * len(sample) / len(x_BD)), probed.numel())
        limit_B1 = torch.full_like(limit_B1, probed.flatten().topk(n_kept, sorted=False).values.amin().item())
    share = (half.bounds(probed, sample) * SLACK >= limit_B1[sample]).float().mean()
    if not 0 < share <= MOST_CANDIDATES:  # no candidates if a number is not finite
        return None
    parts = [half.reaching(rows, limit_B1, score) for rows in encoder.row_blocks(len(x_BD))]
    rows, latents = (torch.cat(part) for part in zip(*parts, strict=True))
    offsets = offsets_of(count_each(rows, len(x_BD)))
    values = dot_products(x_BD, W_FD, latents, offsets) + encoder.b_enc[latents]
    return Candidates(Pool(rows, latents, values, encoder.scores(values, latents)), offsets, limit_B1.squeeze(1))
