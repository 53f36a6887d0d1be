"""Sums, means and selections over all processes of a run; with one process, the value itself and no communication."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from sae_lens_abstopk.system.errors import TrainingStopped

DIGIT_BITS = 16


class OtherRankError(TrainingStopped):
    """Another process of the run has failed or is gone, and this one ends with it."""


def n_ranks() -> int:
    """Processes that train together; 1 where torch.distributed has not been started."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def this_rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if n_ranks() > 1 else 0


def summed(x: torch.Tensor) -> torch.Tensor:
    """Sum over ranks, in place, and returned."""
    if n_ranks() > 1:
        dist.all_reduce(x)
    return x


def averaged(x: torch.Tensor) -> torch.Tensor:
    """Mean over ranks, in place, and returned."""
    return summed(x).div_(n_ranks()) if n_ranks() > 1 else x


def least(x: torch.Tensor) -> torch.Tensor:
    """Smallest over ranks, in place, and returned."""
    if n_ranks() > 1:
        dist.all_reduce(x, op=dist.ReduceOp.MIN)
    return x


def gathered(x: torch.Tensor) -> torch.Tensor:
    """Rows of all ranks, in the order of the ranks; each has as many."""
    if n_ranks() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(n_ranks())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def any_rank(here: bool) -> bool:
    """Whether it is so on any rank; every rank has to ask, and waits for the others."""
    return bool(summed(torch.tensor(int(here)))) if n_ranks() > 1 else here


def barrier() -> None:
    """Wait until every rank is here."""
    any_rank(False)


def nth_highest(scores: torch.Tensor, n: int) -> torch.Tensor:
    """
    The ``n``-th highest of the scores of all ranks; 0 where they have fewer. A scalar, the same on every rank.

    Scores of no negative number sort as their bits do, so a histogram of 16 bits at a time, summed over the ranks, finds
    the bits of the one that is asked for: two sums of 2^16 counts for float32, however many scores and ranks there are.

    Args:
        scores: Those of this rank, any number of them: float32 or float64, none below 0.
        n: Counted over all ranks.
    """
    width = 8 * scores.element_size()
    # abs: the bits of a negative zero would sort first
    bits = scores.detach().abs().view(torch.int32 if width == 32 else torch.int64).long()
    inside = torch.ones_like(bits)
    wanted, found = bits.new_full((), n), bits.new_zeros(())
    for shift in range(width - DIGIT_BITS, -1, -DIGIT_BITS):
        digits = (bits >> shift) & (2**DIGIT_BITS - 1)
        counts = summed(bits.new_zeros(2**DIGIT_BITS).index_add_(0, digits, inside).int()).long()
        at_least = counts.flip(0).cumsum(0).flip(0)
        digit = ((at_least >= wanted).sum() - 1).clamp(min=0)
        wanted = wanted - (at_least - counts).gather(0, digit[None])[0]  # to index by it would wait for a GPU
        inside = inside * (digits == digit)
        found = (found << DIGIT_BITS) | digit
    return found.to(torch.int32 if width == 32 else torch.int64).view(scores.dtype)


@contextmanager
def together(what: str) -> Iterator[None]:
    """
    Leave when all ranks do, and by an exception if any of them does.

    Args:
        what: What is being done, for the ranks that succeeded.

    Raises:
        OtherRankError: another rank left by an exception.
    """
    try:
        yield
    except BaseException:
        any_rank(True)
        raise
    if any_rank(False):
        raise OtherRankError(f"{what} failed on another rank; see that rank's output for the reason.")
