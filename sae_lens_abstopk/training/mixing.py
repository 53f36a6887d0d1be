"""A shuffling buffer of fixed memory: the batches of SAELens's mixing buffer, without copying what stays."""

from collections.abc import Iterator

import torch


@torch.no_grad()
def mixed_batches(
    activations: Iterator[torch.Tensor], *, buffer_size: int, batch_size: int, mix_fraction: float
) -> Iterator[torch.Tensor]:
    """
    Batches [batch_size, d_in] drawn from a buffer that new activations fill up as batches leave it.

    Yields what SAELens's ``mixing_buffer`` yields at the same random state. That one joins and permutes its storage
    whole each time; here a row is written once, where a row that was served lay, and read once: only row numbers are
    permuted. At most ``buffer_size`` and the largest block of activations are held.

    Args:
        activations: Blocks [n, d_in], with any n.
        buffer_size: Rows at which batches are served.
        batch_size: Rows of a batch, at most ``buffer_size``.
        mix_fraction: Share of the buffer that is kept back to be mixed with what comes next; at 0 nothing is shuffled.
    """
    rows: torch.Tensor | None = None
    free = order = torch.empty(0, dtype=torch.int64)
    for block in activations:
        if rows is None:
            free = torch.arange(buffer_size + len(block))
            rows = block.new_empty(len(free), *block.shape[1:])
        if len(block) > len(free):
            grown = torch.arange(len(rows), len(rows) + len(block) - len(free))
            rows = torch.cat([rows, rows.new_empty(len(grown), *rows.shape[1:])])
            free = torch.cat([free, grown])
        taken, free = free[: len(block)], free[len(block) :]
        rows[taken.to(rows.device)] = block
        order = torch.cat([order, taken])
        if len(order) >= buffer_size:
            if mix_fraction > 0:
                order = order[torch.randperm(len(order))]
            n_batches = max(1, (len(order) - int(buffer_size * mix_fraction)) // batch_size)
            served, order = order[: n_batches * batch_size], order[n_batches * batch_size :]
            for part in served.split(batch_size):
                yield rows[part.to(rows.device)]
            free = torch.cat([free, served])
    if rows is not None:
        for part in order[: len(order) // batch_size * batch_size].split(batch_size):
            if len(part):
                yield rows[part.to(rows.device)]
