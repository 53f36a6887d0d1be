"""The encoder for a selection: pre-activations and their ranking, a block of tokens at a time."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

# pre-activations held at a time: on a CPU they fit into its cache, on a GPU into memory
CPU_BLOCK, CUDA_BLOCK = 2**22, 2**27


class EncoderWeights(NamedTuple):
    """The map u = x @ W_enc + b_enc, and the ranking of its entries: by |u * scale|, or by u * scale if positive."""

    W_enc: Float[Tensor, "D F"]
    b_enc: Float[Tensor, " F"]
    scale: Float[Tensor, " F"] | None = None
    """Decoder norms, if codes are rescaled by them."""
    n_signed: int | None = None
    """Number of leading latents ranked by magnitude, None for all; the others rank by value, if positive."""
    half_precision: bool = False
    """Whether to search candidates in bfloat16 (see :mod:`.candidates`); for float32 weights only."""

    @property
    def all_signed(self) -> bool:
        """Whether every latent may fire on both sides."""
        return self.n_signed is None or self.n_signed == self.W_enc.shape[1]

    def row_blocks(self, n_tokens: int) -> Iterator[slice]:
        """Return blocks of tokens whose pre-activations fit into memory."""
        rows = max(1, (CUDA_BLOCK if self.W_enc.is_cuda else CPU_BLOCK) // self.W_enc.shape[1])
        for start in range(0, n_tokens, rows):
            yield slice(start, min(start + rows, n_tokens))

    def scores(self, u: Float[Tensor, "..."], latents: Int[Tensor, "..."] | None = None) -> Float[Tensor, "..."]:
        """Return the scores of pre-activations [..., F], or of those of ``latents``, in the same shape."""
        if self.scale is not None:
            return self.scores_(u * (self.scale if latents is None else self.scale[latents]), latents)
        if self.all_signed or self.n_signed == 0:
            return u.relu() if self.n_signed == 0 else u.abs()
        return self.scores_(u.clone(), latents)

    def scores_(self, u: Float[Tensor, "..."], latents: Int[Tensor, "..."] | None = None) -> Float[Tensor, "..."]:
        """Return the scores of pre-activations that are already times ``scale``, in place."""
        if self.n_signed is None or self.all_signed:
            return u.abs_()
        if self.n_signed == 0:
            return u.relu_()
        if latents is not None:
            return torch.where(latents < self.n_signed, u.abs(), u.relu())
        u[..., : self.n_signed].abs_()
        u[..., self.n_signed :].relu_()
        return u


class TopEntries(NamedTuple):
    """The W highest entries of each token, unordered."""

    latents: Int[Tensor, "B W"]
    values: Float[Tensor, "B W"]
    """Pre-activations, before ``scale``."""
    scores: Float[Tensor, "B W"]
    bound: Float[Tensor, " B"]
    """Bound: no other entry of the token ranks higher."""


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


def top_entries(encoder: EncoderWeights, x_BD: Float[Tensor, "B D"], width: int) -> TopEntries:
    """Return the ``width`` highest entries of each token."""
    if len(x_BD) == 0:
        none = x_BD.new_zeros(0, width)
        return TopEntries(none.long(), none, none, x_BD.new_zeros(0))
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for rows in encoder.row_blocks(len(x_BD)):
        u_bF = torch.addmm(encoder.b_enc, x_BD[rows], encoder.W_enc)
        best = encoder.scores(u_bF).topk(width, sorted=False)
        parts.append((best.indices, u_bF.gather(1, best.indices), best.values))
    latents, values, scores = (torch.cat(part) for part in zip(*parts, strict=True))
    return TopEntries(latents, values, scores, scores.amin(1))
