"""Exact selection at the speed of a half-precision product: candidates in bfloat16, values and proof in float32."""

import warnings
from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_lens_abstopk.sparse.codes import row_norms

# largest relative error of one rounding to bfloat16
ROUNDING = 2.0**-8
# covers the rounding of a score and of its sum with the margin
SLACK = 1 + 2.1 * ROUNDING
# inputs far below the batch's mean norm get a margin from it, which avoids division by zero
LEAST_NORM = 0.01
# so many rows fit into a CPU cache
LATENTS_AT_A_TIME = 1024

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
