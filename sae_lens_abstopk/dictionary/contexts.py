"""Collect contexts of both poles of every latent from a stream of codes: the strongest, or a uniform sample."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from sae_lens_abstopk.dictionary.code_batch import CodeBatch
from sae_lens_abstopk.dictionary.group_top import GroupTop, Payload

# a latent active on a larger share of the tokens has contexts of every kind
DENSE = 0.05
# smallest share of firings on the weaker side of a two-sided latent
EVEN = 0.1


@dataclass(frozen=True)
class Context:
    """One firing of a latent and the tokens around it."""

    code: float
    """The latent's code at the token, sign included."""
    before: tuple[int, ...]
    """Token ids up to the token."""
    token: int
    after: tuple[int, ...]
    codes: tuple[float, ...] = ()
    """Codes of the latent at all of these tokens, in order; NaN at tokens that were left out."""


class PoleContexts:
    """
    Keeps ``n`` firings of each pole of each latent with the tokens around them: the strongest, at most one of each row
    of the text, so that they are not one passage over and over.

    Holds [2 * d_sae, n, before + 1 + after] tokens and codes, however long the text. Pole 0 is the positive one.
    """

    def __init__(self, d_sae: int, n: int = 3, *, before: int = 12, after: int = 4) -> None:
        self.d_sae, self.before, self.after = d_sae, before, after
        width = before + 1 + after
        self.top = GroupTop(2 * d_sae, n, {"tokens": ((width,), torch.int32), "codes": ((width,), torch.float32)})
        self.fires = torch.zeros(2, d_sae, dtype=torch.int64)
        self.n_tokens = 0

    def update(self, codes: torch.Tensor, where: torch.Tensor, tokens: torch.Tensor) -> None:
        """Add codes [n, d_sae] of the tokens at ``where`` [n, 2] (row and position) in ``tokens`` [batch, context]."""
        self.add(CodeBatch.of(codes, where, tokens))

    def add(self, batch: CodeBatch, scores: torch.Tensor | None = None) -> None:
        """Add a batch; with ``scores`` [N], the firings with the highest scores are kept, also several of one row."""
        firings = batch.firings
        rows = batch.where[firings.rows, 0] if scores is None else None

        def windows(chosen: torch.Tensor) -> Payload:
            return batch.windows(chosen, before=self.before, after=self.after)._asdict()

        groups = firings.poles * self.d_sae + firings.latents
        self.fires += torch.bincount(groups, minlength=2 * self.d_sae).view(2, -1)
        self.top.update(groups, firings.values.abs() if scores is None else scores, windows, sources=rows)
        self.n_tokens += batch.n_tokens

    def of(self, latent: int, pole: int) -> list[Context]:
        """Return the contexts of pole 0 (positive) or 1 (negative) of ``latent``, highest score first."""
        group = pole * self.d_sae + latent
        found = []
        kept = (self.top.scores, self.top.payload["tokens"], self.top.payload["codes"])
        for score, ids, codes in zip(*(part[group].tolist() for part in kept), strict=True):
            if score == -math.inf:
                continue
            found.append(
                Context(
                    code=codes[self.before],
                    before=tuple(token for token in ids[: self.before] if token >= 0),
                    token=ids[self.before],
                    after=tuple(token for token in ids[self.before + 1 :] if token >= 0),
                    codes=tuple(code for token, code in zip(ids, codes, strict=True) if token >= 0),
                )
            )
        return found

    @property
    def strength(self) -> torch.Tensor:
        """Return |code| of the kept firings of each pole, [2, d_sae, n]; 0 where a pole fired in fewer rows."""
        strength = self.top.payload["codes"][..., self.before].abs()
        return strength.view(2, self.d_sae, -1)

    def suggested(self, n: int) -> list[int]:
        """
        The ``n`` latents to look at first: those whose weaker pole peaks highest, sparse two-sided ones first.

        Latents with one pole come after those with two, sparse ones first, by the peak of that pole; dead ones come
        last, and equals by their number. Sparse latents fire on at most ``DENSE`` of the tokens (the others are on
        everywhere and hard to read), two-sided ones have ``EVEN`` of their firings on the weaker pole. The peak of a
        pole is the mean of its strongest codes, with 0 for each that it lacks because it fired in too few rows.
        """
        total, (weaker, stronger) = self.fires.sum(0), self.strength.mean(-1).sort(dim=0).values
        sparse = total <= DENSE * self.n_tokens
        reads_well = sparse & (self.fires.min(0).values >= EVEN * total)
        keys = (stronger, sparse.int(), weaker, reads_well.int(), (total > 0).int())
        return np.lexsort([-key.numpy() for key in keys])[:n].tolist()
