"""The interface between training and a source of activations, and the stream of batches that a run reads from one."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from traceback import clear_frames
from typing import Any, NamedTuple, Protocol

import torch
from sae_lens.training.prefetch import PrefetchingIterator
from typing_extensions import override

from sae_lens_abstopk.system.errors import TrainingStopped
from sae_lens_abstopk.system.ranks import any_rank
from sae_lens_abstopk.training.interruption import Interrupted


class NonFiniteActivationsError(TrainingStopped):
    """A source produced NaN or infinite activations."""


class SourcePosition(NamedTuple):
    """State of a source between two batches; a source that loads it continues with the same batches."""

    n_blocks: int
    """Number of blocks that were read."""
    max_norm: float | None
    """Largest activation norm that is kept."""
    served: torch.Tensor
    """Rows [n, d_in] that come next, in their order."""
    waiting: torch.Tensor
    """Rows [m, d_in] that wait to be mixed with later ones."""
    generator: torch.Tensor
    """State of the random generator that shuffles rows."""


class ActivationSource(Protocol):
    """Protocol of a source of activation batches to train on."""

    d_in: int
    """Width of the activations."""

    def metadata(self) -> dict[str, Any]:
        """Describe the activations, for the metadata of SAEs, results and the model card."""
        ...

    def batches(self) -> Iterator[torch.Tensor]:
        """Yield batches [n, d_in] without end, all with the same n."""
        ...

    def position(self) -> SourcePosition:
        """Return the state between two batches."""
        ...

    def go_to(self, position: SourcePosition, on_progress: Callable[[int, int], None] = ...) -> None:
        """Move a new source to the position of an earlier one with the same settings."""

    def close(self) -> None:
        """Stop threads and write pending data."""


class NoBatchError(Exception):
    """There is no next batch because of the error in ``args``; the run is between two steps."""


class BatchStream(Iterator[torch.Tensor]):
    """
    Iterator over the batches [n, d_in] of a source, ``prefetch`` of which a thread makes ahead of their use.

    ``before_each`` is called before each batch; if it raises, the position stays. If one of several ranks is stopped or
    has no batch, all ranks stop before the same batch. Nothing else may read the source.
    """

    def __init__(self, source: ActivationSource, *, prefetch: int, before_each: Callable[[], None]) -> None:
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
        """Keep the prefetching thread from the source."""
        return self._source.paused() if isinstance(self._source, PrefetchingIterator) else nullcontext()

    def position(self) -> SourcePosition:
        with self.paused():
            position = self._origin.position()
            if self._ready:
                waiting_batches = [*self._ready, *([position.served] if len(position.served) else [])]
                # batches are float32; held rows keep the dtype of the model or cache
                position = position._replace(served=torch.cat(waiting_batches).to(position.waiting.dtype))
            return position

    def close(self) -> None:
        if isinstance(self._source, PrefetchingIterator):
            self._source.close()
        self._origin.close()
