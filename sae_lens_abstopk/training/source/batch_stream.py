"""The batches of a run: optionally read ahead, interruptible between two, with a position to resume from."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from traceback import clear_frames

import torch
from sae_lens.training.prefetch import PrefetchingIterator
from typing_extensions import override

from sae_lens_abstopk.system.ranks import any_rank
from sae_lens_abstopk.training.interruption import Interrupted
from sae_lens_abstopk.training.source.activation_source import ActivationSource, SourcePosition


class NoBatchError(Exception):
    """There is no next batch because of ``error``; the run is between two steps."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class BatchStream(Iterator[torch.Tensor]):
    """
    Iterator over the batches [n, d_in] of a source; nothing else may read that source.

    Args:
        source: Source of the batches.
        prefetch: Batches that a thread makes ahead of their use; 0 for none.
        before_each: Called before each batch; if it raises, the position stays.

    If one of several ranks is stopped or has no batch, all ranks stop before the same batch.
    """

    def __init__(
        self, source: ActivationSource, *, prefetch: int = 0, before_each: Callable[[], None] = lambda: None
    ) -> None:
        self._origin = source
        self._before_each = before_each
        self._ready: deque[torch.Tensor] = deque()
        """Batches taken from the source and not used yet."""
        batches = self._queued()
        self._source = PrefetchingIterator(batches, prefetch) if prefetch else batches

    def _queued(self) -> Iterator[torch.Tensor]:
        for batch in self._origin.batches():
            self._ready.append(batch)
            yield batch

    @override
    def __next__(self) -> torch.Tensor:
        stops: Interrupted | NoBatchError | None = None
        batch: torch.Tensor | None = None
        try:
            self._before_each()
            batch = next(self._source)
        except Interrupted as error:
            stops = error
        except Exception as error:  # errors of the text, the language model, a cache or the network
            clear_frames(error.__traceback__)  # its frames may hold GPU memory that saving needs
            stops = NoBatchError(error)
        if any_rank(stops is not None):
            raise stops or Interrupted("another rank")
        assert batch is not None
        self._ready.popleft()
        return batch

    def paused(self) -> AbstractContextManager[None]:
        """Keep the prefetching thread from the source within this context."""
        return self._source.paused() if isinstance(self._source, PrefetchingIterator) else nullcontext()

    def position(self) -> SourcePosition:
        """Return the position of the next batch."""
        with self.paused():
            position = self._origin.position()
            if self._ready:
                waiting_batches = [*self._ready, *([position.served] if len(position.served) else [])]
                # batches are float32; held rows keep the dtype of the model or cache
                position = position._replace(served=torch.cat(waiting_batches).to(position.waiting.dtype))
            return position

    def close(self) -> None:
        """Stop reading."""
        if isinstance(self._source, PrefetchingIterator):
            self._source.close()
        self._origin.close()
