"""The pool of entries that a selection chooses from, and the search for it in half precision."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_lens_abstopk.sparse.candidates import SLACK, HalfPrecisionEncoder, dot_products
from sae_lens_abstopk.sparse.codes import count_each, offsets_of
from sae_lens_abstopk.sparse.encoder import EncoderWeights, TopEntries

# Tokens that are looked at first, to learn how high a score has to be.
PROBED_TOKENS = 64
# For fewer tokens, rounding the weights takes longer than it saves (`experiments/speed/step_time.py --inference`).
LEAST_TOKENS = 768
# Share of the probed tokens whose k-th score may lie below the limit; tokens like them are computed again.
BELOW_LIMIT = 0.02
# Over a batch the limit is set as if so many times as many were kept: too high a one would redo the whole batch.
KEPT_MARGIN = 1.3
# The search is given up where it takes more than this share of the latents.
MOST_CANDIDATES = 0.25
# Tokens with more candidates than so many times the mean are computed again, rather than give all others as much room.
MOST_TIMES_MEAN = 4


class Pool(NamedTuple):
    """Entries of tokens, in no order."""

    rows: Int[Tensor, " N"]
    latents: Int[Tensor, " N"]
    values: Float[Tensor, " N"]
    scores: Float[Tensor, " N"]

    @classmethod
    def of(cls, rows: Int[Tensor, " B"], top: TopEntries) -> "Pool":
        """The top entries of the tokens ``rows``."""
        entries = (part.flatten() for part in (top.latents, top.values, top.scores))
        return cls(rows.repeat_interleave(top.latents.shape[1]), *entries)

    def best(self, n: int) -> torch.return_types.topk:
        """Scores and places of the ``n`` entries that rank highest, or of all."""
        return self.scores.topk(min(n, len(self.scores)), sorted=False)

    def replaced(self, rows: Int[Tensor, " B"], top: TopEntries, n_tokens: int) -> "Pool":
        """With the top entries of the tokens ``rows`` instead of those that these had."""
        out = torch.zeros(n_tokens, dtype=torch.bool, device=rows.device)
        out[rows] = True
        keep = ~out[self.rows]
        new = Pool.of(rows, top)
        return Pool(*(torch.cat([old[keep], added]) for old, added in zip(self, new, strict=True)))


class Candidates(NamedTuple):
    """Entries that may be kept, token by token, and a bound on all others."""

    entries: Pool
    offsets: Int[Tensor, " B+1"]
    """Token b owns the entries ``offsets[b]`` to ``offsets[b + 1]``."""
    limit_B: Float[Tensor, " B"]
    """No other entry of the token ranks as high as this."""

    def of_each(self, k: int) -> tuple[Int[Tensor, "B k"], Float[Tensor, "B k"], Int[Tensor, " u"]]:
        """Latents and values of the k best entries of each token, and which tokens may have better ones."""
        counts = self.offsets.diff()
        place = torch.arange(len(self.entries.rows), device=counts.device) - self.offsets[self.entries.rows]
        width = max(int(counts.max()), k)
        widest = max(MOST_TIMES_MEAN * math.ceil(len(self.entries.rows) / len(counts)), k)
        rows, scores, limit_B = self.entries.rows, self.entries.scores, self.limit_B
        if width > widest:  # a token unlike the others would widen all of them
            width, there = widest, place < widest
            rows, place, scores = rows[there], place[there], scores[there]
            limit_B = limit_B.where(counts <= widest, torch.inf)
        scores_BW = self.entries.scores.new_full((len(counts), width), -1)
        scores_BW[rows, place] = scores
        best = scores_BW.topk(k, sorted=False)
        # places of entries that are not there are cut back to ones that are; their tokens are not proven anyway
        chosen = (self.offsets[:-1, None] + best.indices).clamp_(max=max(len(self.entries.rows) - 1, 0))
        unproven = best.values.amin(1) < limit_B
        return self.entries.latents[chosen], self.entries.values[chosen], unproven.nonzero().squeeze(1)


def find_candidates(
    encoder: EncoderWeights, x_BD: Float[Tensor, "B D"], n_keep: int, *, per_token: bool
) -> Candidates | None:
    """
    Entries found in bfloat16 and computed in float32, as many as prove the choice most of the time.

    A sample of tokens shows roughly what score a kept entry has; every entry that may reach it is found.
    None where ``encoder.half_precision`` is off, or nothing would be gained.

    Args:
        encoder: The map and its ranking.
        x_BD: float32.
        n_keep: Entries that will be kept, of each token or of all together.
        per_token: Which of the two.
    """
    if not encoder.half_precision or x_BD.dtype != torch.float32 or len(x_BD) < LEAST_TOKENS:
        return None
    W_FD = encoder.W_enc.T.contiguous()
    half = HalfPrecisionEncoder.of(x_BD, W_FD, encoder.b_enc, encoder.scale)
    score = encoder.scores_  # as the rows of the half-precision encoder are scaled
    sample = torch.arange(0, len(x_BD), max(1, len(x_BD) // PROBED_TOKENS), device=x_BD.device)
    probed = half.scores(sample, score)
    limit_B1 = half.norms_B1.float()  # what a token keeps grows with its norm; what the batch keeps does not
    if per_token:
        kept = probed.topk(n_keep, sorted=False).values.amin(1).float()
        limit_B1 *= (kept / limit_B1[sample, 0]).quantile(BELOW_LIMIT)
    else:
        n_kept = min(math.ceil(KEPT_MARGIN * n_keep * len(sample) / len(x_BD)), probed.numel())
        limit_B1 = torch.full_like(limit_B1, probed.flatten().topk(n_kept, sorted=False).values.amin().item())
    share = (half.bounds(probed, sample) * SLACK >= limit_B1[sample]).float().mean()
    if not 0 < share <= MOST_CANDIDATES:  # none at all where a number is not finite
        return None
    parts = [half.reaching(rows, limit_B1, score) for rows in encoder.row_blocks(len(x_BD))]
    rows, latents = (torch.cat(part) for part in zip(*parts, strict=True))
    offsets = offsets_of(count_each(rows, len(x_BD)))
    values = dot_products(x_BD, W_FD, latents, offsets) + encoder.b_enc[latents]
    return Candidates(Pool(rows, latents, values, encoder.scores(values, latents)), offsets, limit_B1.squeeze(1))
