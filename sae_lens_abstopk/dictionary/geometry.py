"""Cosines between decoder rows: antipodal pairs and nearest rows, block by block."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch

from sae_lens_abstopk.system.errors import ConfigError

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
    """Pairs of latents whose decoder rows point in opposite directions, the most opposed first."""

    first: torch.Tensor
    """The smaller index of each pair, int64 [n]."""
    second: torch.Tensor
    """The larger index, int64 [n]."""
    cosine: torch.Tensor
    """cos(d_first, d_second), float64 [n], ascending."""
    total: int
    """Pairs below the threshold; more than ``n`` only where ``LISTED`` cut the list."""
    threshold: float

    def __len__(self) -> int:
        return len(self.first)

    @property
    def latents(self) -> int:
        """Number of latents in at least one listed pair."""
        return len(torch.cat([self.first, self.second]).unique())


class NearestDecoders(NamedTuple):
    """
    For each latent, the k most aligned latents by falling cosine and the k most opposed by rising cosine: int64 and
    float32 [F, k]; -1 and NaN for a latent whose row is zero.
    """

    nearest: torch.Tensor
    nearest_cosine: torch.Tensor
    opposed: torch.Tensor
    opposed_cosine: torch.Tensor


@torch.no_grad()
def antipodal_pairs(W_dec: torch.Tensor, *, threshold: float = ANTIPODAL) -> AntipodalPairs:
    """
    All pairs i < j with cos(d_i, d_j) < ``threshold``, exactly: pairs near it are settled in double precision.

    Every pair of rows is looked at once, in blocks of at most ``BLOCK_ROWS`` rows by as many columns as keep a block
    within ``BLOCK_ENTRIES`` entries; no [F, F] matrix is held. A row of norm zero has no direction and is in no pair.

    Args:
        W_dec: Decoder rows [F, D] of any float type and scale, on any device; the pairs are on the CPU.
        threshold: Cosine below which two rows are antipodal, between -1 and 0.

    Raises:
        ConfigError: ``W_dec`` holds numbers that are not finite, or the threshold is out of range.
    """
    if not -1 < threshold < 0:
        raise ConfigError(f"threshold={threshold!r} must lie between -1 and 0: opposed rows have a negative cosine.")
    unit = unit_rows(W_dec)
    first = second = torch.empty(0, dtype=torch.int64)
    cosine, total = torch.empty(0, dtype=torch.float64), 0
    for rows, columns, block in _upper_blocks(unit):
        i, j = (block < threshold + SLACK).nonzero(as_tuple=True)
        i, j = i + rows, j + columns
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
def nearest_decoders(W_dec: torch.Tensor, k: int) -> NearestDecoders:
    """
    The ``k`` most aligned and the ``k`` most opposed decoder rows of each latent in W_dec [F, D], itself left out.

    ``W_dec`` may be of any float type and scale, on any device; the result is on the CPU. Rows of norm zero are no
    one's neighbours and have none.

    Raises:
        ConfigError: ``W_dec`` holds numbers that are not finite, or has no ``k`` rows besides each latent's own.
    """
    unit = unit_rows(W_dec)
    zero = ~unit.any(1)
    room = int((~zero).sum()) - 1
    if not 1 <= k <= room:
        raise ConfigError(f"k={k!r} must lie between 1 and {room}, the other decoder rows with a direction.")
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
            found.append((best.indices.masked_fill(empty, -1).cpu(), best.values.masked_fill(empty, torch.nan).cpu()))
    return NearestDecoders(*_stacked(nearest), *_stacked(opposed))


def unit_rows(rows: torch.Tensor) -> torch.Tensor:
    """Return rows [n, D] of finite numbers scaled to norm 1, in float32; a zero row stays zero."""
    unit = rows.to(torch.float32, copy=True)
    largest = torch.linalg.vector_norm(unit, ord=torch.inf, dim=1, keepdim=True)
    if bad := int((~largest.isfinite()).sum()):
        raise ConfigError(f"{bad} of {len(rows)} rows hold numbers that are not finite; a cosine needs finite ones.")
    # first by the largest entry, so that no square leaves the range of float32
    unit.div_(largest.masked_fill_(largest == 0, 1))
    norms = torch.linalg.vector_norm(unit, dim=1, keepdim=True)
    return unit.div_(norms.masked_fill_(norms == 0, 1))


def _upper_blocks(unit: torch.Tensor) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Yield (first row, first column, cosines) of blocks that cover every pair i < j."""
    n_columns = max(BLOCK_ENTRIES // BLOCK_ROWS, 1)
    for row in range(0, len(unit), BLOCK_ROWS):
        for column in range(row, len(unit), n_columns):
            yield row, column, unit[row : row + BLOCK_ROWS] @ unit[column : column + n_columns].T


def _exact_cosines(rows: torch.Tensor, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
    """Return cos(rows[i], rows[j]) in double precision, float64 [n]."""
    parts = [torch.empty(0, dtype=torch.float64, device=rows.device)]
    for a, b in zip(i.split(REFINED_AT_ONCE), j.split(REFINED_AT_ONCE), strict=True):
        x, y = rows[a].double(), rows[b].double()
        parts.append((x / x.norm(dim=1, keepdim=True) * (y / y.norm(dim=1, keepdim=True))).sum(1).clamp(-1, 1))
    return torch.cat(parts)


def _stacked(parts: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    indices, cosines = zip(*parts, strict=True)
    return torch.cat(indices), torch.cat(cosines).clamp(-1, 1)
