"""The seam between training and where activations come from."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import torch

from sae_lens_abstopk.system.errors import TrainingStopped


class NonFiniteActivationsError(TrainingStopped):
    """A source produced NaN or infinite activations."""


class SourcePosition(NamedTuple):
    """The state of a source between two batches, from which it goes on with the same batches."""

    n_blocks: int
    """Blocks that were read, of the size that the source reads."""
    max_norm: float | None
    """Largest norm of an activation that is kept."""
    served: torch.Tensor
    """Rows [n, d_in] that come next, in their order."""
    waiting: torch.Tensor
    """Rows [m, d_in] that wait to be mixed with later ones."""
    generator: torch.Tensor
    """State of the generator that shuffles rows."""


class ActivationSource(Protocol):
    """Batches of activations that SAEs train on; training sees nothing else of where they come from."""

    d_in: int
    """Width of the activations."""

    def metadata(self) -> dict[str, Any]:
        """Return what the activations are, for the metadata of SAEs, and so for results and the model card."""
        ...

    def batches(self) -> Iterator[torch.Tensor]:
        """Yield batches [n, d_in] for ever, of the same n."""
        ...

    def position(self) -> SourcePosition:
        """Return the state between two batches."""
        ...

    def go_to(self, position: SourcePosition, on_progress: Callable[[int, int], None] = ...) -> None:
        """Bring a new source to the position of an earlier one with the same settings."""
        ...

    def close(self) -> None:
        """Stop threads, and write what is left to write."""
        ...
