"""A shuffling buffer with fixed memory that yields the batches of SAELens's mixing buffer."""

from collections.abc import Iterator

import torch
from typing_extensions import override

EMPTY = torch.empty(0, dtype=torch.int64)


class MixingBuffer(Iterator[torch.Tensor]):
    """
    Iterator over batches [batch_size, d_in] from a buffer that is refilled with new activations.

    At the same random state it yields the batches of SAELens's ``mixing_buffer``, which copies and permutes its whole
    storage each time. Here only row numbers are permuted; a new row takes the place of a row that was served. Memory
    holds at most ``buffer_size`` rows and the largest block [n, d_in] of ``activations``. The share ``mix_fraction`` of
    the buffer is kept back to mix with the next rows; at 0 nothing is shuffled.
    """

    def __init__(
        self,
        activations: Iterator[torch.Tensor],
        *,
        buffer_size: int,
        batch_size: int,
        mix_fraction: float,
        generator: torch.Generator | None = None,
    ) -> None:
        self._activations = activations
        self._buffer_size = buffer_size
        self._batch_size = batch_size
        self._mix_fraction = mix_fraction
        self._generator = generator
        self._rows: torch.Tensor | None = None
        self._free = self._order = self._served = EMPTY

    @override
    @torch.no_grad()
    def __next__(self) -> torch.Tensor:
        while len(self._served) == 0:
            block = next(self._activations, None)
            if block is not None:
                self._add(block)
            if block is None or len(self._order) >= self._buffer_size:
                self._serve(whole=block is None)
            if block is None and len(self._served) == 0:
                raise StopIteration
        part, self._served = self._served[: self._batch_size], self._served[self._batch_size :]
        self._free = torch.cat([self._free, part])
        assert self._rows is not None
        return self._rows[part]

    def rows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows [n, d_in] that come next, in order, and those that wait to be mixed."""
        if self._rows is None:
            return torch.empty(0, 0), torch.empty(0, 0)
        return self._rows[self._served], self._rows[self._order]

    def refill(self, served: torch.Tensor, waiting: torch.Tensor) -> None:
        """Fill a new buffer with the result of :meth:`rows`."""
        order = torch.arange(len(served) + len(waiting), device=served.device)
        if len(order):
            self._rows = torch.cat([rows for rows in (served, waiting) if len(rows)])
        self._served, self._order, self._free = order[: len(served)], order[len(served) :], order[:0]

    def _add(self, block: torch.Tensor) -> None:
        if self._rows is None:
            self._free = torch.arange(self._buffer_size + len(block), device=block.device)
            self._order = self._free[:0]
            self._rows = block.new_empty(len(self._free), *block.shape[1:])
        if len(block) > len(self._free):
            n_rows = len(self._rows) + len(block) - len(self._free)
            grown = torch.arange(len(self._rows), n_rows, device=block.device)
            self._rows = torch.cat([self._rows, self._rows.new_empty(len(grown), *self._rows.shape[1:])])
            self._free = torch.cat([self._free, grown])
        taken, self._free = self._free[: len(block)], self._free[len(block) :]
        if block.dtype != self._rows.dtype:  # the restored rows may come from a model in another dtype
            dtype = torch.promote_types(self._rows.dtype, block.dtype)
            self._rows, block = self._rows.to(dtype), block.to(dtype)
        self._rows[taken] = block
        self._order = torch.cat([self._order, taken])

    def _serve(self, *, whole: bool) -> None:
        n_rows = len(self._order)
        if n_rows >= self._buffer_size and not whole:
            if self._mix_fraction > 0:
                # row numbers live on the rows' device, so that the host does not wait for the GPU
                mixed = torch.randperm(n_rows, generator=self._generator)
                self._order = self._order[mixed.to(self._order.device, non_blocking=True)]
            n_batches = max(1, (n_rows - int(self._buffer_size * self._mix_fraction)) // self._batch_size)
        else:
            n_batches = n_rows // self._batch_size
        n_served = n_batches * self._batch_size
        self._served, self._order = self._order[:n_served], self._order[n_served:]
