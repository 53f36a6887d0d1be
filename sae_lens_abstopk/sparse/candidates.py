"""Exact selection at the speed of a half-precision product: candidates in bfloat16, values and proof in float32."""

import math
import warnings
from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_lens_abstopk.sparse.codes import count_each, offsets_of, row_norms
from sae_lens_abstopk.sparse.encoder import EncoderWeights, Pool

# largest relative error of one rounding to bfloat16
ROUNDING = 2.0**-8
# covers the rounding of a score and of its sum with the margin
SLACK = 1 + 2.1 * ROUNDING
# inputs far below the batch's mean norm get a margin from it, which avoids division by zero
LEAST_NORM = 0.01
# so many rows fit into a CPU cache
LATENTS_AT_A_TIME = 1024
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

# torch warns at a process's first CSR tensor that they are beta: make one here, silenced
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
    torch.sparse_csr_tensor(torch.zeros(2, dtype=torch.int64), [], [], (1, 1), check_invariants=False)

Score = Callable[[Tensor], Tensor]
"""Function from pre-activations [b, F] to scores, maybe in place; at most the magnitude, and 1-Lipschitz."""


def bfloat16_is_fast(device: torch.device) -> bool:
    """Return whether the CPU has instructions for bfloat16 products; False on GPUs, which were not measured."""
    if device.type != "cpu":
        return False
    if hasattr(torch.cpu, "get_capabilities"):
        known = torch.cpu.get_capabilities()
        return bool(known.get("amx_tile") or known.get("avx512_bf16"))
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # older torch lacks the function
    return any(getattr(torch.cpu, check, bool)() for check in checks)


class HalfPrecisionEncoder(NamedTuple):
    """
    An encoder in bfloat16 with a bound on the error of its scores.

    For an input x with ||x|| <= n, the float32 score u_f = s_f (x . w_f + b_f) and its bfloat16 value v_f satisfy

        |u_f| <= (|v_f| + n * margin_f) * SLACK,

    by Cauchy-Schwarz on the parts that rounding cut off x and s_f w_f, where a product is rounded to bfloat16 once.
    All fields are in bfloat16.
    """

    W_FD: Float[Tensor, "F D"]
    """Scaled encoder rows s_f w_f."""
    b_F: Float[Tensor, " F"]
    """Scaled biases s_f b_f."""
    margin_F: Float[Tensor, " F"]
    """Error bound for an input of norm 1."""
    x_BD: Float[Tensor, "B D"]
    norms_B1: Float[Tensor, "B 1"]

    @classmethod
    def of(
        cls,
        x_BD: Float[Tensor, "B D"],
        W_FD: Float[Tensor, "F D"],
        b_F: Float[Tensor, " F"],
        scale_F: Float[Tensor, " F"] | None,
    ) -> "HalfPrecisionEncoder":
        """Round float32 inputs, encoder rows, biases and scales."""
        half_x = x_BD.bfloat16()
        norms_B = row_norms(x_BD)
        norms_B = norms_B.clamp(min=LEAST_NORM * norms_B.mean().clamp(min=1e-30))
        lost_x = (row_norms(x_BD - half_x.float()) / norms_B).max()
        half_W = torch.empty_like(W_FD, dtype=torch.bfloat16)
        margin_F = torch.empty_like(b_F)
        summation = x_BD.shape[1] * 2.0**-23
        for start in range(0, len(W_FD), LATENTS_AT_A_TIME):
            part = slice(start, start + LATENTS_AT_A_TIME)
            rows = W_FD[part] if scale_F is None else W_FD[part] * scale_F[part, None]
            half_W[part] = rows
            lost_W = row_norms(rows - half_W[part].float())
            margin_F[part] = (lost_x + summation) * row_norms(rows) + (1 + ROUNDING) * lost_W
        b_F = b_F if scale_F is None else b_F * scale_F
        margin_F = margin_F + ROUNDING * b_F.abs() / norms_B.min()
        margin_F = (margin_F * (1 + 4 * ROUNDING)).bfloat16()
        return cls(half_W, b_F.bfloat16(), margin_F, half_x, norms_B[:, None].bfloat16())

    def scores(self, rows: slice | Int[Tensor, " b"], score: Score) -> Float[Tensor, "b F"]:
        """Compute approximate scores of these tokens, in bfloat16."""
        return score(torch.addmm(self.b_F, self.x_BD[rows], self.W_FD.T))

    def bounds(self, scores_bF: Float[Tensor, "b F"], rows: slice | Int[Tensor, " b"]) -> Float[Tensor, "b F"]:
        """Turn scores, in place, into upper bounds of the exact scores, up to the factor ``SLACK``."""
        return scores_bF.addcmul_(self.norms_B1[rows], self.margin_F)

    def reaching(
        self, rows: slice, limit_B1: Float[Tensor, "B 1"], score: Score
    ) -> tuple[Int[Tensor, " N"], Int[Tensor, " N"]]:
        """Return the entries, as tokens of the block and latents, whose scores may reach their token's limit."""
        # round the limit down by more than the bfloat16 comparison can round up
        limit = (limit_B1[rows] / SLACK * (1 - 2 * ROUNDING)).bfloat16()
        tokens, latents = (self.bounds(self.scores(rows, score), rows) >= limit).nonzero(as_tuple=True)
        return tokens + rows.start, latents


def dot_products(
    x_BD: Float[Tensor, "B D"], W_FD: Float[Tensor, "F D"], latents: Int[Tensor, " N"], offsets: Int[Tensor, " B+1"]
) -> Float[Tensor, " N"]:
    """Compute x_b . w_f for the latents f of each token b, which owns ``offsets[b]`` to ``offsets[b + 1]``."""
    where = torch.sparse_csr_tensor(
        offsets, latents, x_BD.new_zeros(len(latents)), (len(x_BD), len(W_FD)), check_invariants=False
    )
    return cast(Tensor, torch.sparse.sampled_addmm(where, x_BD, W_FD.T, beta=0.0)).values()


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
    Find candidates for the ``n_keep`` entries, per token or in all, in bfloat16, and compute them in float32.

    A sample of tokens gives a rough limit for kept scores; every entry that may reach it is a candidate. Returns None
    if ``encoder.half_precision`` is off, or if the search would not save time.
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
