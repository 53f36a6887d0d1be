"""Differences of two models on a text that both read once: later epochs come from memory."""

from collections.abc import Generator, Iterator
from itertools import count, islice

import torch
from typing_extensions import override

from sae_lens_abstopk.model.inference import casts_shared
from sae_lens_abstopk.training.source.difference_source import DifferenceSource
from sae_lens_abstopk.training.source.language_model_source import (
    BATCHES_PER_CAST,
    NORM_CALIBRATION_BATCHES,
    RawBatch,
)

# a text with more bytes of differences is read anew in each epoch
KEPT_BYTES = 2**30


class KeptDifferenceSource(DifferenceSource):
    """
    A :class:`DifferenceSource` whose first epoch is kept, shuffled anew in each later one.

    Batches that the norm limit was measured on are served too. A run that goes on reads the text once more.
    """

    _measured: list[RawBatch]
    _ended: bool = False
    _skipped: int = 0

    @override
    def median_norm(self) -> float:
        self._measured = list(self._rest(NORM_CALIBRATION_BATCHES))
        if not self._measured:
            raise StopIteration
        norms = torch.cat([self._kept(batch).norms for batch in self._measured])
        self.n_llm_batches = 0  # these batches are still to come
        return norms.median().item()

    @override
    def _skip(self, n_batches: int, on_progress: object = None) -> None:
        self._skipped = n_batches

    @override
    def _iterate_filtered_activations(self) -> Generator[torch.Tensor, None, None]:
        yield from islice(self._epochs(), self._skipped, None)

    def _epochs(self) -> Iterator[torch.Tensor]:
        blocks, n_bytes, fits = list[torch.Tensor](), 0, True
        for batch in self._first_epoch():
            block = self._kept(batch).activations
            n_bytes += block.nbytes
            fits = fits and n_bytes <= KEPT_BYTES
            blocks = [*blocks, block] if fits else []
            yield block
        if not n_bytes:
            raise self._too_little_text()
        if not fits:
            yield from super()._iterate_filtered_activations()
        rows, size = torch.cat(blocks), max(map(len, blocks))
        del blocks
        for epoch in count(1):
            order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(epoch))
            for chosen in order.to(rows.device).split(size):
                yield rows[chosen]

    def _first_epoch(self) -> Iterator[RawBatch]:
        measured = getattr(self, "_measured", [])
        while measured:
            yield measured.pop(0)
        while not self._ended:
            yield from self._rest(BATCHES_PER_CAST)

    @casts_shared()
    def _rest(self, n: int) -> list[RawBatch]:
        """Read up to ``n`` more batches of the text."""
        found = list[RawBatch]()
        while len(found) < n and not self._ended:
            try:
                found.append(self.raw_batch(True))
            except StopIteration:
                self._ended = True
        return found
