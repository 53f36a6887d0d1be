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
    Batches [n, d_in] of a source that nobody else reads.

    Args:
        source: Where they come from.
        prefetch: Batches that a thread makes ahead of their use; 0 for none.
        before_each: Called before a batch is taken; may raise, which leaves the position as it was.

    If one of several ranks is stopped, or has no batch, all of them stop before the same one.
    """

    def __init__(
        self, source: ActivationSource, *, prefetch: int = 0, before_each: Callable[[], None] = lambda: None
    ) -> None:
        self._origin = source
        self._before_each = before_each
        self._ready: deque[torch.Tensor] = deque()
        """Taken from the source and not used yet."""
        noted = self._noted()
        self._source = PrefetchingIterator(noted, prefetch) if prefetch else noted

    def _noted(self) -> Iterator[torch.Tensor]:
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
        except Exception as error:  # of the text, the language model, a cache, the network
            clear_frames(error.__traceback__)  # what they hold on a GPU may leave no room to save
            stops = NoBatchError(error)
        if any_rank(stops is not None):
            raise stops or Interrupted("another rank")
        assert batch is not None
        self._ready.popleft()
        return batch

    def paused(self) -> AbstractContextManager[None]:
        """Let no thread read the source while this is open."""
        return self._source.paused() if isinstance(self._source, PrefetchingIterator) else nullcontext()

    def position(self) -> SourcePosition:
        """Return the position of the next batch."""
        with self.paused():
            position = self._origin.position()
            if self._ready:
                waiting_batches = [*self._ready, *([position.served] if len(position.served) else [])]
                # batches are served in float32, rows are held as the model or a cache gave them
                position = position._replace(served=torch.cat(waiting_batches).to(position.waiting.dtype))
            return position

    def close(self) -> None:
        """Stop reading."""
        if isinstance(self._source, PrefetchingIterator):
            self._source.close()
        self._origin.close()
