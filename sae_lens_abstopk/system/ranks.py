"""Sums, means and selections over all processes of a run; with one process there is no communication."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from sae_lens_abstopk.system.errors import TrainingStopped

DIGIT_BITS = 16


class OtherRankError(TrainingStopped):
    """Another process of the run failed or is gone, so this one ends too."""


def n_ranks() -> int:
    """Return the number of processes that train together; 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def this_rank() -> int:
    """Return the rank of this process, from 0."""
    return dist.get_rank() if n_ranks() > 1 else 0


def summed(x: torch.Tensor) -> torch.Tensor:
    """Sum ``x`` over ranks, in place, and return it."""
    if n_ranks() > 1:
        dist.all_reduce(x)
    return x


def averaged(x: torch.Tensor) -> torch.Tensor:
    """Average ``x`` over ranks, in place, and return it."""
    return summed(x).div_(n_ranks()) if n_ranks() > 1 else x


def least(x: torch.Tensor) -> torch.Tensor:
    """Take the minimum of ``x`` over ranks, in place, and return it."""
    if n_ranks() > 1:
        dist.all_reduce(x, op=dist.ReduceOp.MIN)
    return x


def gathered(x: torch.Tensor) -> torch.Tensor:
    """Return the rows of all ranks, in rank order; every rank has the same number."""
    if n_ranks() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(n_ranks())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def any_rank(here: bool) -> bool:
    """Return whether ``here`` is true on any rank; every rank must call this, and waits for the others."""
    return bool(summed(torch.tensor(int(here)))) if n_ranks() > 1 else here


def barrier() -> None:
    """Wait for every rank."""
    any_rank(False)


def nth_highest(scores: torch.Tensor, n: int) -> torch.Tensor:
    """
    Return the ``n``-th highest of the non-negative ``scores`` over all ranks, a scalar; 0 if there are fewer.

    Non-negative floats sort like their bits, so a histogram of 16 bits at a time, summed over the ranks, finds the bits
    of that score: two sums of 2^16 counts for float32, for any number of scores and ranks.
    """
    width = 8 * scores.element_size()
    # abs, because the bits of a negative zero would sort first
    bits = scores.detach().abs().view(torch.int32 if width == 32 else torch.int64).long()
    inside = torch.ones_like(bits)
    wanted, found = bits.new_full((), n), bits.new_zeros(())
    for shift in range(width - DIGIT_BITS, -1, -DIGIT_BITS):
        digits = (bits >> shift) & (2**DIGIT_BITS - 1)
        counts = summed(bits.new_zeros(2**DIGIT_BITS).index_add_(0, digits, inside).int()).long()
        at_least = counts.flip(0).cumsum(0).flip(0)
        digit = ((at_least >= wanted).sum() - 1).clamp(min=0)
        wanted = wanted - (at_least - counts).gather(0, digit[None])[0]  # indexing would wait for the GPU
        inside = inside * (digits == digit)
        found = (found << DIGIT_BITS) | digit
    return found.to(torch.int32 if width == 32 else torch.int64).view(scores.dtype)


@contextmanager
def together(what: str) -> Iterator[None]:
    """Leave this context when all ranks do; raise an :class:`OtherRankError` that names ``what`` if another raised."""
    try:
        yield
    except BaseException:
        any_rank(True)
        raise
    if any_rank(False):
        raise OtherRankError(f"{what} failed on another rank; see that rank's output for the reason.")
