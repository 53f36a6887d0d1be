"""Collect contexts of both poles of every latent from a stream of codes: the strongest, or a uniform sample."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

# a latent active on a larger share of the tokens has contexts of every kind
DENSE = 0.05
# smallest share of firings on the weaker side of a two-sided latent
EVEN = 0.1
Payload = Mapping[str, torch.Tensor]


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


class Firings(NamedTuple):
    """The N non-zero codes of a batch, in any order: rows and latents, int64 [N], and values, float32 [N]."""

    rows: torch.Tensor
    latents: torch.Tensor
    values: torch.Tensor

    @property
    def poles(self) -> torch.Tensor:
        """Pole of each firing: 0 for positive, 1 for negative, int64 [N]."""
        return (self.values < 0).long()


class CodeBatch:
    """
    Codes [n, d_sae], dense or sparse, of the tokens at ``where`` [n, 2] (row, position) in ``tokens`` [batch, context].

    Everything is brought to the CPU as firings; the codes themselves stay where they are.
    """

    def __init__(self, codes: torch.Tensor, where: torch.Tensor, tokens: torch.Tensor) -> None:
        self.codes, self.where, self.tokens = codes.to_dense() if codes.is_sparse else codes, where.cpu(), tokens.cpu()
        self.n_tokens = len(where)
        rows, latents = self.codes.nonzero(as_tuple=True)
        self.firings = Firings(rows.cpu(), latents.cpu(), self.codes[rows, latents].float().cpu())
        self._row_at = torch.full(tokens.shape, -1, dtype=torch.int64)
        self._row_at[self.where[:, 0], self.where[:, 1]] = torch.arange(self.n_tokens)

    def token_ids(self, chosen: torch.Tensor) -> torch.Tensor:
        """Return the token of each of the ``chosen`` firings, int64 [n]."""
        where = self.where[self.firings.rows[chosen]]
        return self.tokens[where[:, 0], where[:, 1]]

    def windows(self, chosen: torch.Tensor, *, before: int, after: int) -> Payload:
        """
        Return the ``tokens`` around the ``chosen`` firings (indices [n]), and the ``codes`` of their latents there.

        Both are [n, before + 1 + after]; -1 beyond the ends of the text row, NaN at tokens that were left out.
        """
        where = self.where[self.firings.rows[chosen]]
        positions = where[:, 1:] + torch.arange(-before, after + 1)
        inside = (positions >= 0) & (positions < self.tokens.shape[1])
        positions = positions.clamp(0, self.tokens.shape[1] - 1)
        tokens = self.tokens[where[:, :1], positions].int().masked_fill(~inside, -1)
        rows = self._row_at[where[:, :1], positions].masked_fill(~inside, -1)
        latents = self.firings.latents[chosen, None].expand_as(rows)
        device = self.codes.device
        codes = self.codes[rows.clamp(min=0).to(device), latents.to(device)].float().cpu()
        return {"tokens": tokens, "codes": codes.masked_fill(rows < 0, torch.nan)}


class GroupTop:
    """
    Keeps the ``n`` entries of highest score in each group, each with a ``payload`` of tensors: name to (shape, dtype).

    Memory is [n_groups, n] scores and as much of each payload, however many entries come by. With scores drawn
    uniformly at random the kept entries are a uniform sample of all.
    """

    def __init__(self, n_groups: int, n: int, payload: Mapping[str, tuple[tuple[int, ...], torch.dtype]]) -> None:
        self.n = n
        self.scores = torch.full((n_groups, n), -torch.inf)
        self.payload = {name: torch.zeros(n_groups, n, *shape, dtype=kind) for name, (shape, kind) in payload.items()}
        self._least = torch.full((n_groups,), -torch.inf)

    def update(
        self,
        groups: torch.Tensor,
        scores: torch.Tensor,
        payload: Callable[[torch.Tensor], Payload],
        *,
        sources: torch.Tensor | None = None,
    ) -> None:
        """
        Add entries of ``groups`` [N] with finite ``scores`` [N].

        Of the entries of one group with one number in ``sources`` [N], only the best of this call counts. ``payload``
        is called with the indices [m] of the few entries that may stay, and gives their payload [m, ...].
        """
        chosen = (scores > self._least[groups]).nonzero()[:, 0]
        if len(chosen) == 0:
            return
        chosen = chosen[scores[chosen].argsort(descending=True, stable=True)]
        chosen = chosen[groups[chosen].argsort(stable=True)]
        if sources is not None:
            pairs = groups[chosen] * (int(sources.max()) + 1) + sources[chosen]
            order = pairs.argsort(stable=True)  # the best of each pair first, as before
            first = pairs[order].diff(prepend=pairs.new_tensor([-1])) != 0
            chosen = chosen[order[first].sort().values]
        touched, counts = groups[chosen].unique_consecutive(return_counts=True)
        rank = torch.arange(len(chosen)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        row = torch.arange(len(touched)).repeat_interleave(counts)
        chosen, row, rank = (part[rank < self.n] for part in (chosen, row, rank))

        offered = torch.full((len(touched), self.n), -torch.inf)
        offered[row, rank] = scores[chosen]
        best = torch.cat([self.scores[touched], offered], dim=1).topk(self.n, dim=1)
        self.scores[touched] = best.values
        self._least[touched] = best.values[:, -1]
        for name, new in payload(chosen).items():
            kept = self.payload[name]
            candidates = kept.new_zeros(len(touched), 2 * self.n, *kept.shape[2:])
            candidates[:, : self.n] = kept[touched]
            candidates[row, self.n + rank] = new.to(kept.dtype)
            kept[touched] = candidates[torch.arange(len(touched))[:, None], best.indices]


class PoleContexts:
    """
    Keeps the ``n`` strongest firings of each pole of each latent, one a text row, with the tokens around them.

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
        self.add(CodeBatch(codes, where, tokens))

    def add(self, batch: CodeBatch, scores: torch.Tensor | None = None) -> None:
        """Add a batch; with ``scores`` [N], the firings with the highest scores are kept, also several of one row."""
        firings = batch.firings
        rows = batch.where[firings.rows, 0] if scores is None else None
        windows = partial(batch.windows, before=self.before, after=self.after)
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

        Latents with one pole come after those with two, by the peak of that pole; dead ones come last. Sparse latents
        fire on at most ``DENSE`` of the tokens, two-sided ones have ``EVEN`` of their firings on the weaker pole. The
        peak of a pole is the mean of its strongest codes, with 0 for each that it lacks.
        """
        total, (weaker, stronger) = self.fires.sum(0), self.strength.mean(-1).sort(dim=0).values
        sparse = total <= DENSE * self.n_tokens
        reads_well = sparse & (self.fires.min(0).values >= EVEN * total)
        keys = (stronger, sparse.int(), weaker, reads_well.int(), (total > 0).int())
        return np.lexsort([-key.numpy() for key in keys])[:n].tolist()
