"""Noticing that a run has diverged, before it writes what came of it over what was good."""

from collections import deque
from collections.abc import Mapping
from statistics import median

import torch

from sae_lens_abstopk.errors import TrainingStopped
from sae_lens_abstopk.ranks import averaged

# losses that the running median is of; there is no judging by it before as many have been seen
WINDOW = 100
# steps between two looks, as each makes the host wait for a GPU
STEPS_BETWEEN = 10


class DivergedError(TrainingStopped):
    """The loss of a run is NaN, infinite or far above what it was."""


class DivergenceWatch:
    """
    Compares every loss with the median of the hundred before it.

    Args:
        factor: A loss above this multiple of the median means divergence; None leaves only NaN and infinity.
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
        self._unseen.append((step, {name: loss.detach() for name, loss in losses.items()}))
        if len(self._unseen) >= STEPS_BETWEEN:
            self.look()

    def look(self) -> None:
        """
        Judge the losses that have not been looked at yet; over several ranks their means.

        Raises:
            DivergedError: one of them is not finite, or exceeds ``factor`` times its running median.
        """
        unseen = [(name, loss, step) for step, losses in self._unseen for name, loss in losses.items()]
        self._unseen = []
        means = averaged(torch.stack([loss for _, loss, _ in unseen])).tolist() if unseen else []
        for (name, _, step), mean in zip(unseen, means, strict=True):
            self._judge(name, mean, step)

    def _judge(self, name: str, loss: float, step: int) -> None:
        before = self._seen.setdefault(name, deque(maxlen=WINDOW))
        if not abs(loss) < float("inf"):
            raise DivergedError(f"the loss of {name!r} is {loss} at step {step:,}")
        if self.factor is not None and len(before) == WINDOW:
            usual = median(before)
            if loss > self.factor * usual > 0:
                raise DivergedError(
                    f"the loss of {name!r} is {loss:.4g} at step {step:,}, {loss / usual:.0f} times the median of the "
                    f"{WINDOW} steps before ({usual:.4g})"
                )
        before.append(loss)

    def state(self) -> dict[str, list[float]]:
        """The losses that later ones are compared with, all having been looked at."""
        return {name: list(losses) for name, losses in self._seen.items()}

    def load(self, state: Mapping[str, list[float]]) -> None:
        """Take up the :meth:`state` of another watch."""
        self._seen = {name: deque(losses, maxlen=WINDOW) for name, losses in state.items()}
