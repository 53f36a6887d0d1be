"""The encoder as a selection sees it: pre-activations and what ranks them, a block of tokens at a time."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Pre-activations held at a time. On a CPU a block stays in its cache; on a GPU it only has to fit.
CPU_BLOCK, CUDA_BLOCK = 2**22, 2**27


class EncoderWeights(NamedTuple):
    """The map u = x @ W_enc + b_enc, and how its entries rank: by |u * scale|, or by u * scale where positive."""

    W_enc: Float[Tensor, "D F"]
    b_enc: Float[Tensor, " F"]
    scale: Float[Tensor, " F"] | None = None
    """Decoder norms, where codes are rescaled by them."""
    n_signed: int | None = None
    """The first latents, so many, rank by magnitude; the others by value, and only positive ones are on. None: all."""
    half_precision: bool = False
    """Look for candidates in bfloat16 (see :mod:`.candidates`); for float32 weights only."""

    @property
    def all_signed(self) -> bool:
        """Whether every latent may fire on both sides."""
        return self.n_signed is None or self.n_signed == self.W_enc.shape[1]

    def row_blocks(self, n_tokens: int) -> Iterator[slice]:
        """Blocks of tokens whose pre-activations fit together."""
        rows = max(1, (CUDA_BLOCK if self.W_enc.is_cuda else CPU_BLOCK) // self.W_enc.shape[1])
        for start in range(0, n_tokens, rows):
            yield slice(start, min(start + rows, n_tokens))

    def scores(self, u: Float[Tensor, "..."], latents: Int[Tensor, "..."] | None = None) -> Float[Tensor, "..."]:
        """Rank of pre-activations [..., F], or of those of ``latents``, in their shape."""
        if self.scale is not None:
            return self.scores_(u * (self.scale if latents is None else self.scale[latents]), latents)
        if self.all_signed or self.n_signed == 0:
            return u.relu() if self.n_signed == 0 else u.abs()
        return self.scores_(u.clone(), latents)

    def scores_(self, u: Float[Tensor, "..."], latents: Int[Tensor, "..."] | None = None) -> Float[Tensor, "..."]:
        """The same of pre-activations times ``scale``, in place, as they may be of [B, F]."""
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
    """The W entries of each token that rank highest, in no order."""

    latents: Int[Tensor, "B W"]
    values: Float[Tensor, "B W"]
    """Pre-activations, before ``scale``."""
    scores: Float[Tensor, "B W"]
    bound: Float[Tensor, " B"]
    """No other entry of the token ranks above this."""


def top_entries(encoder: EncoderWeights, x_BD: Float[Tensor, "B D"], width: int) -> TopEntries:
    """The ``width`` entries of each token that rank highest."""
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
