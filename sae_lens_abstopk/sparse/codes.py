"""Sparse codes: the active latents of each token, with gradients whose cost grows with the entries only."""

from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag


class SparseCodes(NamedTuple):
    """
    The active entries of codes [B, F], ordered by token.

    Shape letters in this folder: B tokens, D d_in, F d_sae, K latents per token, N entries in all.
    """

    values: Float[Tensor, " N"]
    latents: Int[Tensor, " N"]
    offsets: Int[Tensor, " B+1"]
    """Token b owns the entries ``offsets[b]`` to ``offsets[b + 1]``."""

    @property
    def rows(self) -> Int[Tensor, " N"]:
        """Token of each entry."""
        counts = self.offsets.diff()
        tokens = torch.arange(len(counts), device=counts.device)
        return torch.repeat_interleave(tokens, counts, output_size=len(self.latents))

    def where(self, keep: Bool[Tensor, " N"]) -> "SparseCodes":
        """Keep the entries for which ``keep`` is true."""
        kept = keep.nonzero().squeeze(1)  # only once, because the host waits for a GPU to count them
        counts = count_each(self.rows[kept], len(self.offsets) - 1)
        return SparseCodes(self.values[kept], self.latents[kept], offsets_of(counts))

    def scaled(self, scale: Float[Tensor, " F"] | None) -> "SparseCodes":
        """Multiply each value by the ``scale`` of its latent."""
        return self if scale is None else self._replace(values=self.values * scale[self.latents])

    def to_coo(self, d_sae: int) -> Float[Tensor, "B F"]:
        """Convert to a sparse COO tensor."""
        size = (len(self.offsets) - 1, d_sae)
        indices = torch.stack([self.rows, self.latents])
        # entries are unique; the flag saves a sort, and sums and casts do not need the order within a token
        return torch.sparse_coo_tensor(indices, self.values, size, is_coalesced=True, check_invariants=False)


def count_each(indices: Int[Tensor, " N"], n: int) -> Int[Tensor, " n"]:
    """Count each number below ``n``; unlike ``bincount``, the host does not wait for the GPU."""
    return indices.new_zeros(n).index_add_(0, indices, torch.ones_like(indices))


def offsets_of(counts: Int[Tensor, " n"]) -> Int[Tensor, " n+1"]:
    """Return the offsets of groups of the given sizes."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def even_offsets(n_tokens: int, k: int, device: torch.device) -> Int[Tensor, " _"]:
    """Return the offsets of tokens that own k entries each."""
    return torch.arange(n_tokens + 1, device=device) * k


def row_norms(rows: Float[Tensor, "n D"]) -> Float[Tensor, " n"]:
    """Return Euclidean norms, computed as SAELens does for decoder rows."""
    return cast(Tensor, rows.norm(dim=-1))


class _SparseEncode(torch.autograd.Function):
    """
    Values u[n] = (x[row_n] - centre) . W_enc[:, latent_n] + b_enc[latent_n] at N selected entries.

    The values themselves come from the selection. With G [B, F] the sparse gradient of the values,

        dW_enc = (x - centre)^T G,   db_enc = sum_b G[b],   dcentre = -W_enc db_enc,   dx = G W_enc^T,

    none of which needs a buffer of [B, F] or [B, K, D].
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
    Attach gradients to the values of ``selected``, a selection on ``x_BD - centre_D``.

    The gradient of ``W_enc`` is cheapest if its memory runs along D (``W.T`` of a contiguous [F, D]).
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
