"""Cosines between decoder rows: antipodal pairs, nearest rows, and matches of dictionaries."""

# torch.linalg and scipy are not typed
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from sae_lens import SAE
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from sae_lens_abstopk.saes.signed import signed_latents
from sae_lens_abstopk.system.errors import require_range

ANTIPODAL = -0.7
# most pairs that are listed
LISTED = 1_000_000
BLOCK_ROWS = 2048
# entries of the largest block of cosines at one time: 64 MiB in float32
BLOCK_ENTRIES = 2**24
# A product of unit rows in float32, or in TF32 where a GPU takes that, is off by less than this. Pairs closer to the
# threshold are settled in double precision.
SLACK = 2e-3
REFINED_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class AntipodalPairs:
    """Pairs first < second of latents with opposite decoder rows, int64 [n], by ascending cosine, float64 [n]."""

    first: Tensor
    second: Tensor
    cosine: Tensor
    total: int
    """Pairs below the threshold; more than ``n`` only where ``LISTED`` cut the list."""
    threshold: float

    @property
    def latents(self) -> int:
        """Number of latents in at least one listed pair."""
        return len(torch.cat([self.first, self.second]).unique())


class NearestDecoders(NamedTuple):
    """The k most aligned and most opposed latents of each, int64 and float32 [F, k]; -1 and NaN for a zero row."""

    nearest: Tensor
    nearest_cosine: Tensor
    opposed: Tensor
    opposed_cosine: Tensor


@torch.no_grad()
def antipodal_pairs(W_dec: Float[Tensor, "F D"], *, threshold: float = ANTIPODAL) -> AntipodalPairs:
    """
    All pairs i < j with cos(d_i, d_j) < ``threshold``, exactly: pairs near it are settled in double precision.

    ``W_dec`` [F, D] may be of any float type and scale, on any device; no [F, F] matrix is held, and the pairs are on
    the CPU. A row of norm zero has no direction and is in no pair.
    """
    require_range("threshold", threshold, above=-1, below=0)
    unit = unit_rows(W_dec)
    first = second = torch.empty(0, dtype=torch.int64)
    cosine, total = torch.empty(0, dtype=torch.float64), 0
    n_columns = max(BLOCK_ENTRIES // BLOCK_ROWS, 1)
    for row in range(0, len(unit), BLOCK_ROWS):
        for column in range(row, len(unit), n_columns):
            block = unit[row : row + BLOCK_ROWS] @ unit[column : column + n_columns].T
            i, j = (block < threshold + SLACK).nonzero(as_tuple=True)
            i, j = i + row, j + column
            exact = _exact_cosines(W_dec, i, j)
            found = (i < j) & (exact < threshold)
            total += int(found.sum())
            first = torch.cat([first, i[found].cpu()])
            second = torch.cat([second, j[found].cpu()])
            cosine = torch.cat([cosine, exact[found].cpu()])
            if len(cosine) > LISTED:
                best = cosine.argsort(stable=True)[:LISTED]
                first, second, cosine = first[best], second[best], cosine[best]
    order = cosine.argsort(stable=True)
    return AntipodalPairs(first[order], second[order], cosine[order], total, threshold)


@torch.no_grad()
def nearest_decoders(W_dec: Float[Tensor, "F D"], k: int) -> NearestDecoders:
    """
    The ``k`` most aligned and the ``k`` most opposed decoder rows of each latent in W_dec [F, D], itself left out.

    ``W_dec`` may be of any float type and scale, on any device; the result is on the CPU. Rows of norm zero are no
    one's neighbours and have none.
    """
    unit = unit_rows(W_dec)
    zero = ~unit.any(1)
    room = int((~zero).sum()) - 1
    require_range("k", k, at_least=1, at_most=room, remedy=", the other decoder rows with a direction")
    n_rows = max(BLOCK_ENTRIES // len(unit), 1)
    nearest, opposed = [], []
    for chunk in torch.arange(len(unit), device=unit.device).split(n_rows):
        block = unit[chunk] @ unit.T
        itself = torch.arange(len(chunk), device=unit.device), chunk
        for found, sign in ((nearest, 1), (opposed, -1)):
            block[:, zero] = -sign * torch.inf
            block[itself] = -sign * torch.inf
            best = block.topk(k, dim=1, largest=sign > 0)
            empty = zero[chunk, None]
            cosines = best.values.clamp(-1, 1).masked_fill(empty, torch.nan)
            found.append((best.indices.masked_fill(empty, -1).cpu(), cosines.cpu()))
    columns = [torch.cat(part) for found in (nearest, opposed) for part in zip(*found, strict=True)]
    return NearestDecoders(*columns)


def unit_rows(rows: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
    """Return rows [n, D] of finite numbers scaled to norm 1, in float32; a zero row stays zero."""
    unit = rows.to(torch.float32, copy=True)
    largest = torch.linalg.vector_norm(unit, ord=torch.inf, dim=1, keepdim=True)
    # first by the largest entry, so that no square leaves the range of float32
    unit.div_(largest.masked_fill_(largest == 0, 1))
    norms = torch.linalg.vector_norm(unit, dim=1, keepdim=True)
    return unit.div_(norms.masked_fill_(norms == 0, 1))


def _exact_cosines(rows: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """Return cos(rows[i], rows[j]) in double precision, float64 [n]."""
    parts = [torch.empty(0, dtype=torch.float64, device=rows.device)]
    for a, b in zip(i.split(REFINED_AT_ONCE), j.split(REFINED_AT_ONCE), strict=True):
        x, y = rows[a].double(), rows[b].double()
        parts.append((x / x.norm(dim=1, keepdim=True) * (y / y.norm(dim=1, keepdim=True))).sum(1).clamp(-1, 1))
    return torch.cat(parts)


@dataclass(frozen=True)
class DictionaryMatch:
    """The one-to-one matching of the latents of two dictionaries, int64 [n], that has the largest similarity."""

    first: Tensor
    second: Tensor
    cosine: Tensor
    """Float32 [n], sign kept: a signed latent may come back with its poles swapped."""
    similarity: Tensor
    """Absolute cosine if one of the two is signed, else the cosine, float32 [n]."""

    @property
    def mean_matched_cosine(self) -> float:
        return self.similarity.mean().item()

    def share_above(self, threshold: float) -> float:
        """Share of the matched pairs whose similarity is above ``threshold``; 0.7 and 0.9 are the usual ones."""
        return (self.similarity > threshold).double().mean().item()


def match_saes(first: SAE[Any], second: SAE[Any]) -> DictionaryMatch:
    """Match the decoders of two SAEs by :func:`match_dictionaries`, on the CPU."""
    rows = [sae.W_dec.detach().float().cpu() for sae in (first, second)]
    return match_dictionaries(*rows, signed=(signed_latents(first).cpu(), signed_latents(second).cpu()))


@torch.no_grad()
def match_dictionaries(
    first: Float[Tensor, "F D"], second: Float[Tensor, "F2 D"], *, signed: tuple[Tensor, Tensor]
) -> DictionaryMatch:
    """
    Match decoder rows [F, D] one to one with [F', D], by ``scipy.optimize.linear_sum_assignment``.

    ``signed``, bool [F] and [F'], says which latents may fire on both sides. Turning such a latent around changes
    nothing, so it is matched on the absolute cosine. Dead latents count too, whose directions are arbitrary. Holds up
    to two float64 matrices [F, F'] beside two in float32.
    """
    cosine = (unit_rows(first) @ unit_rows(second).to(first.device).T).clamp_(-1, 1).cpu()
    similarity = torch.where(signed[0].cpu()[:, None] | signed[1].cpu(), cosine.abs(), cosine)
    rows, columns = linear_sum_assignment(similarity.double().neg_().numpy())  # maximize=True would copy it
    i, j = torch.from_numpy(rows), torch.from_numpy(columns)
    return DictionaryMatch(first=i, second=j, cosine=cosine[i, j], similarity=similarity[i, j])
