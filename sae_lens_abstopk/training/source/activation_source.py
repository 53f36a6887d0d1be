"""The interface between training and a source of activations."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import torch

from sae_lens_abstopk.system.errors import TrainingStopped


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
        ...

    def close(self) -> None:
        """Stop threads and write pending data."""
        ...
