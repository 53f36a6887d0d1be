"""Detect that a run has diverged before it overwrites good checkpoints."""

from collections import deque
from collections.abc import Mapping, Sequence
from statistics import median

import torch

from sae_lens_abstopk.system.errors import TrainingStopped
from sae_lens_abstopk.system.ranks import averaged

# losses that the running median covers
WINDOW = 100
# losses that must all be too high: a single batch may leap and come back
LASTING = 10
# steps between two checks: each makes the host wait for the GPU
STEPS_BETWEEN = 10


class DivergedError(TrainingStopped):
    """The loss of a run is NaN or infinite, or stays far above its earlier values."""


class DivergenceWatch:
    """Stops a run when ten losses exceed ``factor`` times the median of the hundred before, or one is not finite."""

    def __init__(self, factor: float | None) -> None:
        self.factor = factor
        self._losses: dict[str, deque[float]] = {}
        self._unseen: list[tuple[int, dict[str, torch.Tensor]]] = []

    def note(self, losses: Mapping[str, torch.Tensor], step: int) -> None:
        """Note the losses of a step, by SAE; :meth:`look` at them every ten steps."""
        self._unseen.append((step, dict(losses)))
        if len(self._unseen) >= STEPS_BETWEEN:
            self.look()

    def look(self) -> None:
        """Check the losses since the last look, averaged over ranks; raise DivergedError."""
        unseen = [(name, loss, step) for step, losses in self._unseen for name, loss in losses.items()]
        self._unseen = []
        means = averaged(torch.stack([loss for _, loss, _ in unseen])).tolist() if unseen else []
        for (name, _, step), loss in zip(unseen, means, strict=True):
            if not abs(loss) < float("inf"):
                raise DivergedError(f"the loss of {name!r} is {loss} at step {step:,}")
            seen = self._losses.setdefault(name, deque(maxlen=WINDOW + LASTING))
            seen.append(loss)
            limit = self._limit(seen)
            if min(list(seen)[-LASTING:]) > limit:
                raise DivergedError(
                    f"the loss of {name!r} is {loss:.4g} at step {step:,}, and was over {limit:.4g} for {LASTING} "
                    f"steps ({self.factor:g} times the median of the {WINDOW} before them)"
                )

    def calm(self) -> bool:
        """Look, and return whether the newest losses are within the limit; above it the weights may be bad already."""
        self.look()
        return all(seen[-1] <= self._limit(seen) for seen in self._losses.values())

    def _limit(self, seen: Sequence[float]) -> float:
        """Return the largest accepted loss; infinity until there are enough losses."""
        if self.factor is None or len(seen) < WINDOW + LASTING:
            return float("inf")
        usual = median(list(seen)[:WINDOW])
        return self.factor * usual if usual > 0 else float("inf")

    def state(self) -> dict[str, list[float]]:
        """Return the losses that later ones are compared with, after a look."""
        return {name: list(losses) for name, losses in self._losses.items()}

    def load(self, state: Mapping[str, list[float]]) -> None:
        """Continue from the :meth:`state` of another watch."""
        self._losses = {name: deque(losses, maxlen=WINDOW + LASTING) for name, losses in state.items()}
