"""The firings in one batch of codes, and the codes of one latent on the tokens around each."""

from typing import NamedTuple, Self

import torch


class Firings(NamedTuple):
    """The N non-zero codes of a batch, in any order."""

    rows: torch.Tensor
    """Row of the codes, int64 [N]."""
    latents: torch.Tensor
    """int64 [N]."""
    values: torch.Tensor
    """The codes, sign included, float32 [N]."""

    @property
    def poles(self) -> torch.Tensor:
        """Pole of each firing: 0 for positive, 1 for negative, int64 [N]."""
        return (self.values < 0).long()


class Windows(NamedTuple):
    """Tokens around some firings, ``before + 1 + after`` wide, the firing's own token at index ``before``."""

    tokens: torch.Tensor
    """Token ids, int32 [n, width]; -1 beyond the ends of the text row."""
    codes: torch.Tensor
    """Codes of the firing latent, float32 [n, width]; NaN at tokens that were left out of the codes."""


class CodeBatch:
    """
    Codes [n, d_sae] of the tokens at ``where`` [n, 2] (row and position) in ``tokens`` [batch, context].

    Everything is brought to the CPU as firings; the codes themselves stay where they are.
    """

    def __init__(self, codes: torch.Tensor, where: torch.Tensor, tokens: torch.Tensor, firings: Firings) -> None:
        self.codes, self.where, self.tokens, self.firings = codes, where, tokens, firings
        self._row_at = torch.full(tokens.shape, -1, dtype=torch.int64)
        self._row_at[where[:, 0], where[:, 1]] = torch.arange(len(where))

    @classmethod
    def of(cls, codes: torch.Tensor, where: torch.Tensor, tokens: torch.Tensor) -> Self:
        """Make the batch from dense or sparse COO ``codes``, as an :class:`~reconstruction.Observer` gets them."""
        codes = codes.to_dense() if codes.is_sparse else codes
        rows, latents = codes.nonzero(as_tuple=True)
        values = codes[rows, latents].float()
        return cls(codes, where.cpu(), tokens.cpu(), Firings(rows.cpu(), latents.cpu(), values.cpu()))

    @property
    def n_tokens(self) -> int:
        return len(self.where)

    def token_ids(self, chosen: torch.Tensor) -> torch.Tensor:
        """Return the token of each of the ``chosen`` firings, int64 [n]."""
        where = self.where[self.firings.rows[chosen]]
        return self.tokens[where[:, 0], where[:, 1]]

    def windows(self, chosen: torch.Tensor, *, before: int, after: int) -> Windows:
        """Return the tokens around the ``chosen`` firings (indices [n]) and the codes of their latents there."""
        where = self.where[self.firings.rows[chosen]]
        positions = where[:, 1:] + torch.arange(-before, after + 1)
        inside = (positions >= 0) & (positions < self.tokens.shape[1])
        positions = positions.clamp(0, self.tokens.shape[1] - 1)
        tokens = self.tokens[where[:, :1], positions].int().masked_fill(~inside, -1)
        rows = self._row_at[where[:, :1], positions].masked_fill(~inside, -1)
        latents = self.firings.latents[chosen, None].expand_as(rows)
        device = self.codes.device
        codes = self.codes[rows.clamp(min=0).to(device), latents.to(device)].float().cpu()
        return Windows(tokens, codes.masked_fill(rows < 0, torch.nan))
