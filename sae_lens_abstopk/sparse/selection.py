"""Selection by magnitude: per token and over a batch, without ever holding all pre-activations [B, F] at once."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch

from sae_lens_abstopk.sparse.candidates import SLACK, HalfPrecisionEncoder, dot_products
from sae_lens_abstopk.sparse.codes import SparseCodes, count_each, even_offsets, offsets_of

# Pre-activations held at a time. On a CPU a block stays in its cache; on a GPU it only has to fit.
CPU_BLOCK, CUDA_BLOCK = 2**22, 2**27
# Tokens that are looked at first, to learn how high a score has to be.
PROBED_TOKENS = 64
# For fewer tokens, to round the weights takes longer than it saves (`experiments/speed/step_time.py --inference`).
LEAST_TOKENS = 768
# Of the probed tokens, the share whose k-th score may lie below the limit for candidates; tokens like them are computed again.
BELOW_LIMIT = 0.02
# Over a batch the limit is set as if so many times as many entries were kept: too high a one would have the whole batch done again.
KEPT_MARGIN = 1.3
# Looking for candidates is given up where it takes more than this share of the latents.
MOST_CANDIDATES = 0.25
# Tokens with more candidates than so many times the mean are computed again, rather than give all others as much room.
MOST_TIMES_MEAN = 4


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
    half_precision: bool = False
    """Look for candidates in bfloat16 (see :mod:`.candidates`); float32 weights alone."""
    open_poles: torch.Tensor | None = None
    """Which poles may be on, bool [2, F], positive row first; None for all. Of signed codes alone."""

    def row_blocks(self, n_tokens: int) -> Iterator[slice]:
        """Blocks of tokens whose pre-activations fit together."""
        rows = max(1, (CUDA_BLOCK if self.W_enc.is_cuda else CPU_BLOCK) // self.W_enc.shape[1])
        for start in range(0, n_tokens, rows):
            yield slice(start, min(start + rows, n_tokens))

    def scores(self, u: torch.Tensor, latents: torch.Tensor | None = None) -> torch.Tensor:
        """What pre-activations are ranked by: [..., F], or the shape of ``latents``."""
        if self.scale is None:
            return self.scores_of_scaled(u, latents, in_place=False)
        return self.scores_of_scaled(u * (self.scale if latents is None else self.scale[latents]), latents)

    def scores_of_scaled(
        self, u: torch.Tensor, latents: torch.Tensor | None = None, *, in_place: bool = True
    ) -> torch.Tensor:
        """The same of pre-activations times ``scale``; in place, as they may be of [B, F]."""
        if self.open_poles is not None:
            low, high = pole_limits(self.open_poles, u.dtype)
            low, high = (low, high) if latents is None else (low[latents], high[latents])
            return (u.clamp_(low, high) if in_place else u.clamp(low, high)).abs_()
        if self.signed:
            return u.abs_() if in_place else u.abs()
        return u.relu_() if in_place else u.relu()


def pole_limits(open_poles: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """What pre-activations are clamped to, [F] each: 0 on the side of a pole that is not open, else infinity."""
    positive, negative = torch.where(open_poles, torch.inf, 0.0).to(dtype)
    return -negative, positive


class Offers(NamedTuple):
    """Entries of each token that may be kept, in no order: [B, W] each."""

    latents: torch.Tensor
    values: torch.Tensor
    """Pre-activations, before ``scale``."""
    scores: torch.Tensor
    """What they are ranked by."""
    bound: torch.Tensor
    """No other entry of the token ranks above this: [B]."""


def best_offers(encoder: EncoderWeights, x_BD: torch.Tensor, width: int) -> Offers:
    """The ``width`` entries of each token that rank highest."""
    if len(x_BD) == 0:
        none = x_BD.new_zeros(0, width)
        return Offers(none.long(), none, none, x_BD.new_zeros(0))
    parts = []
    for rows in encoder.row_blocks(len(x_BD)):
        u_bF = torch.addmm(encoder.b_enc, x_BD[rows], encoder.W_enc)
        best = encoder.scores(u_bF).topk(width, sorted=False)
        parts.append((best.indices, u_bF.gather(1, best.indices), best.values))
    latents, values, scores = (torch.cat(part) for part in zip(*parts, strict=True))
    return Offers(latents, values, scores, scores.amin(1))


class Pool(NamedTuple):
    """Entries that tokens offer, in no order: [n] each."""

    rows: torch.Tensor
    latents: torch.Tensor
    values: torch.Tensor
    scores: torch.Tensor

    @classmethod
    def of(cls, rows: torch.Tensor, offers: Offers) -> "Pool":
        """The offers of the tokens ``rows``."""
        entries = (offers.latents, offers.values, offers.scores)
        return cls(rows.repeat_interleave(offers.latents.shape[1]), *(part.flatten() for part in entries))

    def best(self, n: int) -> torch.return_types.topk:
        """Scores and places of the ``n`` entries that rank highest, or of all."""
        return self.scores.topk(min(n, len(self.scores)), sorted=False)

    def without(self, rows: torch.Tensor, n_tokens: int) -> "Pool":
        out = torch.zeros(n_tokens, dtype=torch.bool, device=rows.device)
        out[rows] = True
        keep = ~out[self.rows]
        return Pool(*(part[keep] for part in self))

    def joined_with(self, other: "Pool") -> "Pool":
        return Pool(*(torch.cat(parts) for parts in zip(self, other, strict=True)))


class Candidates(NamedTuple):
    """Entries that may be kept, token by token, and what all others stay under."""

    entries: Pool
    offsets: torch.Tensor
    """Token b owns the entries ``offsets[b]`` to ``offsets[b + 1]``: int64 [B + 1]."""
    limit_B: torch.Tensor
    """No other entry of the token ranks as high as this."""

    def of_each(self, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Latents [B, k] and values [B, k] of the best entries of each token, and which tokens may have better ones."""
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


def find_candidates(encoder: EncoderWeights, x_BD: torch.Tensor, n_keep: int, *, per_token: bool) -> Candidates | None:
    """
    Entries found in bfloat16 and computed in float32, as many as prove the choice most of the time.

    A sample of tokens tells roughly what score a kept entry has; every entry that may reach it is found.
    None where these are so many, or the tokens so few, that nothing is gained.

    Args:
        encoder: Its ``half_precision`` says whether to do this at all.
        x_BD: float32.
        n_keep: Entries that will be kept, of each token or of all together.
        per_token: Which of the two.
    """
    if not encoder.half_precision or x_BD.dtype != torch.float32 or len(x_BD) < LEAST_TOKENS:
        return None
    W_FD = encoder.W_enc.T.contiguous()
    half = HalfPrecisionEncoder.of(x_BD, W_FD, encoder.b_enc, encoder.scale)
    score = encoder.scores_of_scaled  # as the rows of the half-precision encoder are
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


@torch.no_grad()
def select_per_token(encoder: EncoderWeights, x_BD: torch.Tensor, k: int) -> SparseCodes:
    """
    The k entries of each token of x [B, D] that rank highest, with their u as values (before ``scale``); fewer where
    those are not signed and not positive.
    """
    found = find_candidates(encoder, x_BD, k, per_token=True)
    if found is None:
        latents, values = best_offers(encoder, x_BD, k)[:2]
    else:
        latents, values, unproven = found.of_each(k)
        if len(unproven):
            latents[unproven], values[unproven] = best_offers(encoder, x_BD[unproven], k)[:2]
    codes = SparseCodes(values.flatten(), latents.flatten(), even_offsets(len(x_BD), k, x_BD.device))
    if encoder.open_poles is not None:
        return codes.where(encoder.scores(codes.values, codes.latents) > 0)
    return codes if encoder.signed else codes.where(codes.values > 0)


@torch.no_grad()
def select_over_batch(encoder: EncoderWeights, x_BD: torch.Tensor, n_keep: int) -> SparseCodes:
    """
    The ``n_keep`` entries of the whole batch that rank highest, with their u as values (before ``scale``).

    Where candidates prove nothing, each token offers its best entries, twice the mean number that will be kept; a token
    that may have more to offer is asked again for twice as many. What is left is exact.
    """
    n_tokens, d_sae = len(x_BD), encoder.W_enc.shape[1]
    found = find_candidates(encoder, x_BD, n_keep, per_token=False)
    if found is not None:
        pool = found.entries
        best = pool.best(n_keep)
        if len(best.values) == n_keep and best.values.min() >= found.limit_B.max():
            return codes_of(encoder, pool, best.indices, n_tokens)
    asked = torch.arange(n_tokens, device=x_BD.device)
    width = min(d_sae, 2 * -(-n_keep // max(n_tokens, 1)))
    offers = best_offers(encoder, x_BD, width)
    pool = Pool.of(asked, offers)
    best = pool.best(n_keep)
    while n_tokens and width < d_sae:
        asked = asked[(offers.bound >= best.values.min()) & (offers.bound > 0)]
        if len(asked) == 0:
            break
        width = min(d_sae, 2 * width)
        offers = best_offers(encoder, x_BD[asked], width)
        pool = pool.without(asked, n_tokens).joined_with(Pool.of(asked, offers))
        best = pool.best(n_keep)
    return codes_of(encoder, pool, best.indices, n_tokens)


def codes_of(encoder: EncoderWeights, pool: Pool, kept: torch.Tensor, n_tokens: int) -> SparseCodes:
    """The entries ``kept`` of a pool, token by token; without those that cannot be on."""
    if not encoder.signed or encoder.open_poles is not None:
        kept = kept[pool.scores[kept] > 0]
    kept = kept[pool.rows[kept].argsort()]
    counts = count_each(pool.rows[kept], n_tokens)
    return SparseCodes(pool.values[kept], pool.latents[kept], offsets_of(counts))
