"""Encode and decode at selected entries, with gradients whose cost grows with the entries only."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

from sae_lens_abstopk.sparse.codes import SparseCodes, count_each, offsets_of


class _SparseEncode(torch.autograd.Function):
    """
    Values u[n] = (x[row_n] - centre) . W_enc[:, latent_n] + b_enc[latent_n] at N selected entries.

    The values themselves come from the selection. With G [B, F] the sparse gradient of the values,

        dW_enc = (x - centre)^T G,   db_enc = sum_b G[b],   dcentre = -W_enc db_enc,   dx = G W_enc^T,

    none of which needs a buffer of [B, F] or [B, K, D]. On a GPU, torch's backward pass of :func:`weighted_sums` with
    respect to its table has a buffer of [min(N, F) + N / 10, D] in addition to the gradient.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        x_BD: Tensor,
        centre_D: Tensor,
        W_enc: Tensor,
        b_enc: Tensor,  # noqa: ARG004  # its gradient is computed, its value is in `values`
        values: Tensor,
        latents: Tensor,
        offsets: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(x_BD, centre_D, W_enc, latents, offsets)
        ctx.set_materialize_grads(False)
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        grad_N = grad_outputs[0]
        if grad_N is None:
            return (None,) * 7
        x_BD, centre_D, W_enc, latents, offsets = ctx.saved_tensors
        d_sae = W_enc.shape[1]
        grad_b = grad_N.new_zeros(d_sae).index_add_(0, latents, grad_N)
        grad_W = grad_centre = grad_x = None
        if ctx.needs_input_grad[2]:
            # sorted by latent: each row of the gradient is then a weighted sum of tokens
            by_latent = latents.argsort()
            rows = SparseCodes(grad_N, latents, offsets).rows[by_latent]
            bounds = offsets_of(count_each(latents, d_sae))
            grad_FD = weighted_sums(x_BD, rows, bounds, grad_N[by_latent])
            grad_W = grad_FD.addr_(grad_b, centre_D, alpha=-1).T
        if ctx.needs_input_grad[1]:
            grad_centre = -(W_enc @ grad_b)
        if ctx.needs_input_grad[0]:
            grad_x = weighted_sums(W_enc.T, latents, offsets, grad_N)
        return grad_x, grad_centre, grad_W, grad_b, None, None, None


def sparse_encode(
    x_BD: Float[Tensor, "B D"],
    centre_D: Float[Tensor, " D"],
    W_enc: Float[Tensor, "D F"],
    b_enc: Float[Tensor, " F"],
    selected: SparseCodes,
) -> SparseCodes:
    """
    Attach gradients to the values of ``selected``.

    Args:
        x_BD: Inputs.
        centre_D: Subtracted from every input (``b_dec``, or zeros).
        W_enc: The gradient is cheapest if memory runs along D (``W.T`` of a contiguous [F, D]).
        b_enc: Encoder bias.
        selected: Result of a selection on ``x_BD - centre_D``.
    """
    values: Any = _SparseEncode.apply(x_BD, centre_D, W_enc, b_enc, *selected)
    return selected._replace(values=values)


def sparse_decode(codes: SparseCodes, W_dec: Float[Tensor, "F D"]) -> Float[Tensor, "B D"]:
    """Decode: sum the decoder rows of the active latents, weighted by the codes."""
    return weighted_sums(W_dec, codes.latents, codes.offsets, codes.values)


def weighted_sums(
    table: Float[Tensor, "n D"], rows: Int[Tensor, " N"], offsets: Int[Tensor, " _"], weights: Float[Tensor, " N"]
) -> Float[Tensor, "m D"]:
    """Compute row i as the sum of ``weights[n] * table[rows[n]]`` over n from offsets[i] to offsets[i + 1]."""
    return embedding_bag(rows, table, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True)
