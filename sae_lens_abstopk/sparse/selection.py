"""Selection by magnitude: per token and over a batch, without ever holding all pre-activations [B, F] at once."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from sae_lens_abstopk.sparse.candidates import SLACK, HalfPrecisionEncoder, dot_products
from sae_lens_abstopk.sparse.codes import SparseCodes, count_each, even_offsets, offsets_of

# Pre-activations held at a time. On a CPU a block stays in its cache; on a GPU it only has to fit.
CPU_BLOCK, CUDA_BLOCK = 2**22, 2**27
# Tokens that are computed in both precisions to learn how many candidates it takes.
PROBED_TOKENS = 32
# Looking for candidates is given up where it takes more than this share of the latents.
MOST_CANDIDATES = 0.25


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
        if self.scale is not None:
            u = u * (self.scale if latents is None else self.scale[latents])
        if self.open_poles is None:
            return u.abs() if self.signed else u.relu()
        low, high = pole_limits(self.open_poles, u.dtype)
        return (torch.clamp(u, low, high) if latents is None else torch.clamp(u, low[latents], high[latents])).abs()


def pole_limits(open_poles: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """What pre-activations are clamped to, [F] each: 0 on the side of a pole that is not open, else infinity."""
    positive, negative = torch.where(open_poles, torch.inf, 0.0).to(dtype)
    return -negative, positive


class Offers(NamedTuple):
    """Entries of each token that may be kept, in no order: [B, W] each, float32 scores and values."""

    latents: torch.Tensor
    values: torch.Tensor
    """Pre-activations, before ``scale``."""
    scores: torch.Tensor
    """What they are ranked by."""
    bound: torch.Tensor
    """No other entry of the token ranks above this: [B]."""


def best_offers(encoder: EncoderWeights, x_BD: torch.Tensor, width: int) -> Offers:
    """The ``width`` entries of each token that rank highest."""
    parts = []
    for rows in encoder.row_blocks(len(x_BD)):
        u_bF = torch.addmm(encoder.b_enc, x_BD[rows], encoder.W_enc)
        best = encoder.scores(u_bF).topk(width, sorted=False)
        parts.append((best.indices, u_bF.gather(1, best.indices), best.values))
    latents, values, scores = (torch.cat(part) for part in zip(*parts, strict=True))
    return Offers(latents, values, scores, scores.amin(1))


def candidate_offers(encoder: EncoderWeights, x_BD: torch.Tensor, n_keep: int, *, per_token: bool) -> Offers | None:
    """
    Offers found in bfloat16 and computed in float32, as many as prove the choice for nearly all tokens.

    Some tokens, computed both ways, tell how many that takes. None where it takes so many that nothing is gained.

    Args:
        encoder: Its ``half_precision`` says whether to do this at all.
        x_BD: float32.
        n_keep: Entries that will be kept, of each token or of all together.
        per_token: Which of the two.
    """
    if not encoder.half_precision or x_BD.dtype != torch.float32:
        return None
    W_FD = encoder.W_enc.T.contiguous()
    half = HalfPrecisionEncoder.of(x_BD, W_FD, encoder.b_enc, encoder.scale)
    score = encoder._replace(scale=None).scores  # the rows of the half-precision encoder are scaled already
    sample = torch.arange(0, len(x_BD), max(1, len(x_BD) // PROBED_TOKENS), device=x_BD.device)
    exact = encoder.scores(torch.addmm(encoder.b_enc, x_BD[sample], encoder.W_enc))
    n_kept = n_keep if per_token else max(1, n_keep * len(sample) // len(x_BD))
    least_kept = (exact if per_token else exact.flatten()).topk(n_kept, sorted=False).values.amin(-1, keepdim=True)
    needed = (half.bounds(sample, score) * SLACK >= least_kept).sum(1)
    width = int(1.1 * needed.float().quantile(0.95)) + 8
    if width > MOST_CANDIDATES * encoder.W_enc.shape[1]:
        return None
    parts = [half.candidates(rows, width, score) for rows in encoder.row_blocks(len(x_BD))]
    latents, bound = (torch.cat(part) for part in zip(*parts, strict=True))
    values = dot_products(x_BD, W_FD, latents) + encoder.b_enc[latents]
    return Offers(latents, values, encoder.scores(values, latents), bound)


@torch.no_grad()
def select_per_token(encoder: EncoderWeights, x_BD: torch.Tensor, k: int) -> SparseCodes:
    """The k entries of each token of x [B, D] that rank highest, with their u as values (before ``scale``)."""
    offers = candidate_offers(encoder, x_BD, k, per_token=True)
    if offers is None:
        latents, values = best_offers(encoder, x_BD, k)[:2]
    else:
        best = offers.scores.topk(k, sorted=False)
        latents, values = offers.latents.gather(1, best.indices), offers.values.gather(1, best.indices)
        unproven = (offers.bound > best.values.amin(1)).nonzero().squeeze(1)
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

    Each token offers its best entries, twice the mean number that will be kept; a token that may have more to offer is
    asked again for twice as many. What is left is exact.
    """
    n_tokens, d_sae = len(x_BD), encoder.W_enc.shape[1]
    offers = candidate_offers(encoder, x_BD, n_keep, per_token=False)
    if offers is None:
        offers = best_offers(encoder, x_BD, min(d_sae, 2 * -(-n_keep // n_tokens)))
    asked = torch.arange(n_tokens, device=x_BD.device)
    pool = Pool.of(asked, offers)
    best = pool.best(n_keep)
    width = offers.latents.shape[1]
    while width < d_sae:
        asked = asked[(offers.bound >= best.values.min()) & (offers.bound > 0)]
        if len(asked) == 0:
            break
        width = min(d_sae, 2 * width)
        offers = best_offers(encoder, x_BD[asked], width)
        pool = pool.without(asked, n_tokens).joined_with(Pool.of(asked, offers))
        best = pool.best(n_keep)
    kept = best.indices
    if not encoder.signed or encoder.open_poles is not None:
        kept = kept[pool.scores[kept] > 0]
    kept = kept[pool.rows[kept].argsort()]
    counts = count_each(pool.rows[kept], n_tokens)
    return SparseCodes(pool.values[kept], pool.latents[kept], offsets_of(counts))


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
