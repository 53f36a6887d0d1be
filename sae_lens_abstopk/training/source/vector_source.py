"""Batches of vectors from a file or an array, shuffled anew in every epoch."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import torch

from sae_lens_abstopk.system.errors import require_range
from sae_lens_abstopk.system.ranks import n_ranks, this_rank
from sae_lens_abstopk.training.source.activation_source import SourcePosition
from sae_lens_abstopk.vectors.vectors import Vectors


class VectorSource:
    """
    An :class:`.ActivationSource` over rows of :class:`.Vectors`.

    Epochs follow one another without a gap: batch i holds the i-th ``batch_size`` rows of all epochs, whose orders
    depend on ``seed`` and the number of the epoch only. So the number of batches is the whole state.

    ``rows`` are numbers [n] of rows; ``batch_size`` is over all ranks, and each rank gets its share. ``random_signs``
    multiplies each row by 1 or -1, drawn anew in each epoch.

    Raises:
        ConfigError: there are fewer rows than a batch has.
    """

    def __init__(
        self,
        vectors: Vectors,
        rows: torch.Tensor,
        *,
        batch_size: int,
        seed: int,
        recorded: dict[str, Any],
        random_signs: bool = False,
    ) -> None:
        remedy = f" (train_batch_size_tokens): give more, or lower it, since {vectors.name} has fewer than a batch"
        require_range("rows to train on", len(rows), at_least=batch_size, remedy=remedy)
        self.d_in = vectors.d_in
        self._vectors, self._rows, self._batch_size, self._recorded = vectors, rows, batch_size, recorded
        self._n_batches, self._random_signs = 0, random_signs

        @lru_cache(maxsize=2)  # a batch may end one epoch and begin the next
        def order(epoch: int) -> torch.Tensor:
            return torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))

        @lru_cache(maxsize=2)
        def signs(epoch: int) -> torch.Tensor:
            generator = torch.Generator().manual_seed(-1 - seed * 1_000_003 - epoch)
            return 2.0 * torch.randint(2, (len(rows),), generator=generator) - 1

        self._order, self._signs = order, signs

    def metadata(self) -> dict[str, Any]:
        return self._recorded

    def batches(self) -> Iterator[torch.Tensor]:
        """Yield batches [n, d_in] in float32; on several ranks, this rank's share of each."""
        share = self._batch_size // n_ranks()
        while True:
            start = self._n_batches * self._batch_size + this_rank() * share
            end = start + share
            x = self._vectors.rows(self._rows[self._of_epochs(self._order, start, end)])
            if self._random_signs:
                x *= self._of_epochs(self._signs, start, end).to(x.device)[:, None]
            self._n_batches += 1  # once it is read: a run that cannot read it resumes with it
            yield x

    def _of_epochs(self, of_epoch: Callable[[int], torch.Tensor], start: int, end: int) -> torch.Tensor:
        """Return the entries ``start`` to ``end`` of the tensors of all epochs, one after another."""
        n, found = len(self._rows), []
        while start < end:
            epoch, at = divmod(start, n)
            found.append(of_epoch(epoch)[at : at + end - start])
            start += len(found[-1])
        return torch.cat(found)

    def position(self) -> SourcePosition:
        nothing = torch.empty(0, self.d_in)
        return SourcePosition(self._n_batches, None, nothing, nothing, torch.Generator().get_state())

    def go_to(self, position: SourcePosition, on_progress: Callable[[int, int], None] = lambda *_: None) -> None:  # noqa: ARG002
        self._n_batches = position.n_blocks - len(position.served) * n_ranks() // self._batch_size

    def close(self) -> None:
        """Do nothing; the file is closed with the vectors."""
