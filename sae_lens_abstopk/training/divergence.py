"""Noticing that a run has diverged, before it writes what came of it over what was good."""

from collections import deque
from collections.abc import Mapping, Sequence
from statistics import median

import torch

from sae_lens_abstopk.system.errors import TrainingStopped
from sae_lens_abstopk.system.ranks import averaged

# losses that the running median is of
WINDOW = 100
# losses after these that all have to be too high; one that leaps for single batches comes down by itself
LASTING = 10
# steps between two looks, as each makes the host wait for a GPU
STEPS_BETWEEN = 10


class DivergedError(TrainingStopped):
    """The loss of a run is NaN or infinite, or stays far above what it was."""


class DivergenceWatch:
    """
    Compares every ten losses with the median of the hundred before them.

    Args:
        factor: Losses that all are above this multiple of the median mean divergence; None leaves only NaN and infinity.
    """

    def __init__(self, factor: float | None) -> None:
        self.factor = factor
        self._seen: dict[str, deque[float]] = {}
        self._unseen: list[tuple[int, dict[str, torch.Tensor]]] = []

    def note(self, losses: Mapping[str, torch.Tensor], step: int) -> None:
        """
        Take the losses of a step, by the name of the SAE, and look at what has come every few steps.

        Raises:
            DivergedError: as :meth:`look`.
        """
        self._unseen.append((step, dict(losses)))
        if len(self._unseen) >= STEPS_BETWEEN:
            self.look()

    def look(self) -> None:
        """
        Judge the losses that have not been looked at yet; over several ranks their means.

        Raises:
            DivergedError: one of them is not finite, or is the last of so many that exceed ``factor`` times the median.
        """
        unseen = [(name, loss, step) for step, losses in self._unseen for name, loss in losses.items()]
        self._unseen = []
        means = averaged(torch.stack([loss for _, loss, _ in unseen])).tolist() if unseen else []
        for (name, _, step), mean in zip(unseen, means, strict=True):
            self._judge(name, mean, step)

    def calm(self) -> bool:
        """Whether the newest losses, looked at now, are within the limit; while they are above it, the weights may be lost already."""
        self.look()
        return all(seen[-1] <= self._limit(seen) for seen in self._seen.values())

    def _judge(self, name: str, loss: float, step: int) -> None:
        if not abs(loss) < float("inf"):
            raise DivergedError(f"the loss of {name!r} is {loss} at step {step:,}")
        seen = self._seen.setdefault(name, deque(maxlen=WINDOW + LASTING))
        seen.append(loss)
        limit = self._limit(seen)
        if min(list(seen)[-LASTING:]) > limit:
            raise DivergedError(
                f"the loss of {name!r} is {loss:.4g} at step {step:,}, and was over {limit:.4g} for {LASTING} steps, {self.factor:g} "
                f"times the median of the {WINDOW} before them"
            )

    def _limit(self, seen: Sequence[float]) -> float:
        """What the last losses are held against; infinity before there are enough."""
        if self.factor is None or len(seen) < WINDOW + LASTING:
            return float("inf")
        usual = median(list(seen)[:WINDOW])
        return self.factor * usual if usual > 0 else float("inf")

    def state(self) -> dict[str, list[float]]:
        """The losses that later ones are compared with, all having been looked at."""
        return {name: list(losses) for name, losses in self._seen.items()}

    def load(self, state: Mapping[str, list[float]]) -> None:
        """Take up the :meth:`state` of another watch."""
        self._seen = {name: deque(losses, maxlen=WINDOW + LASTING) for name, losses in state.items()}
