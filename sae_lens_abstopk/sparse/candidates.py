"""Exact selection at the speed of a half-precision product: candidates in bfloat16, values and proof in float32."""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch

# one rounding to bfloat16 moves a number by at most this share of itself
ROUNDING = 2.0**-8
# covers the roundings of a score and of its sum with the margin
SLACK = 1 + 2.1 * ROUNDING
# inputs much smaller than the batch's mean norm are given its margin, so that no division meets a zero
LEAST_NORM = 0.01
# their rows stay in a processor's cache
LATENTS_AT_A_TIME = 1024

# torch says once a process, of the first CSR tensor, that these are in beta state: here, unheard, and not in a training step
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
    torch.sparse_csr_tensor(torch.zeros(2, dtype=torch.int64), [], [], (1, 1), check_invariants=False)

Score = Callable[[torch.Tensor], torch.Tensor]
"""Scores of pre-activations [b, F], which may be overwritten; never more than their magnitudes, nor steeper."""


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether the processor has instructions for products in bfloat16; on GPUs nothing was measured, so no."""
    if device.type != "cpu":
        return False
    if hasattr(torch.cpu, "get_capabilities"):
        known = torch.cpu.get_capabilities()
        return bool(known.get("amx_tile") or known.get("avx512_bf16"))
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # of older torch
    return any(getattr(torch.cpu, check, bool)() for check in checks)


class HalfPrecisionEncoder(NamedTuple):
    """
    An encoder in bfloat16 with a bound on what that costs.

    For an input x with ||x|| <= n, the float32 score u_f = s_f (x . w_f + b_f) and its bfloat16 value v_f satisfy

        |u_f| <= (|v_f| + n * margin_f) * SLACK,

    by Cauchy-Schwarz on the parts that rounding cut off x and s_f w_f, where a product is rounded to bfloat16 once.
    """

    W_FD: torch.Tensor
    """s_f w_f in bfloat16, [F, D]."""
    b_F: torch.Tensor
    """s_f b_f in bfloat16."""
    margin_F: torch.Tensor
    """Bound on the error, for an input of norm 1: bfloat16."""
    x_BD: torch.Tensor
    """The inputs in bfloat16."""
    norms_B1: torch.Tensor
    """Their norms in bfloat16."""

    @classmethod
    def of(
        cls, x_BD: torch.Tensor, W_FD: torch.Tensor, b_F: torch.Tensor, scale_F: torch.Tensor | None
    ) -> "HalfPrecisionEncoder":
        """Of inputs, encoder rows, biases and scales in float32."""
        half_x = x_BD.bfloat16()
        norms_B = x_BD.norm(dim=1)
        norms_B = norms_B.clamp(min=LEAST_NORM * norms_B.mean().clamp(min=1e-30))
        lost_x = ((x_BD - half_x.float()).norm(dim=1) / norms_B).max()
        half_W = torch.empty_like(W_FD, dtype=torch.bfloat16)
        margin_F = torch.empty_like(b_F)
        summation = x_BD.shape[1] * 2.0**-23
        for start in range(0, len(W_FD), LATENTS_AT_A_TIME):
            part = slice(start, start + LATENTS_AT_A_TIME)
            rows = W_FD[part] if scale_F is None else W_FD[part] * scale_F[part, None]
            half_W[part] = rows
            lost_W = (rows - half_W[part].float()).norm(dim=1)
            margin_F[part] = (lost_x + summation) * rows.norm(dim=1) + (1 + ROUNDING) * lost_W
        b_F = b_F if scale_F is None else b_F * scale_F
        margin_F = margin_F + ROUNDING * b_F.abs() / norms_B.min()
        return cls(
            half_W, b_F.bfloat16(), (margin_F * (1 + 4 * ROUNDING)).bfloat16(), half_x, norms_B[:, None].bfloat16()
        )

    def scores(self, rows: slice | torch.Tensor, score: Score) -> torch.Tensor:
        """Approximate scores of these tokens: bfloat16 [b, F]."""
        return score(torch.addmm(self.b_F, self.x_BD[rows], self.W_FD.T))

    def bounds(self, scores_bF: torch.Tensor, rows: slice | torch.Tensor) -> torch.Tensor:
        """What no score of these tokens exceeds, but for the factor ``SLACK``: bfloat16 [b, F], in place of the scores."""
        return scores_bF.addcmul_(self.norms_B1[rows], self.margin_F)

    def reaching(self, rows: slice, limit_B1: torch.Tensor, score: Score) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens of the block, and their latents, whose scores may reach the limits [B, 1] of their tokens."""
        # divided and then rounded down by more than the comparison in bfloat16 can round up
        limit = (limit_B1[rows] / SLACK * (1 - 2 * ROUNDING)).bfloat16()
        tokens, latents = (self.bounds(self.scores(rows, score), rows) >= limit).nonzero(as_tuple=True)
        return tokens + rows.start, latents


def dot_products(x_BD: torch.Tensor, W_FD: torch.Tensor, latents: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """x_b . w_f for the latents f of each token b, which owns ``offsets[b]`` to ``offsets[b + 1]`` of them: [N]."""
    where = torch.sparse_csr_tensor(
        offsets, latents, x_BD.new_zeros(len(latents)), (len(x_BD), len(W_FD)), check_invariants=False
    )
    return torch.sparse.sampled_addmm(where, x_BD, W_FD.T, beta=0.0).values()
