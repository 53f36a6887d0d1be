"""Control between two steps: stop a run that diverges or learns no more, and hold the L0 of an SAE at its target."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import torch
from sae_lens import SAETrainer
from sae_lens.saes.sae import TrainStepOutput

from sae_lens_abstopk.saes.traits import sparsity_coefficient
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
        self._losses = {name: deque(losses, maxlen=WINDOW + LASTING) for name, losses in state.items()}


class EarlyStopping:
    """Ends a run when the held-out FVU of no SAE has fallen for ``patience`` measurements."""

    def __init__(self, patience: int | None) -> None:
        self.patience = patience
        self.best: dict[str, float] = {}
        self.in_vain = 0

    def note(self, fvu: Mapping[str, float]) -> bool:
        """Note a measurement, by SAE; return whether training should end."""
        fallen = {name: value for name, value in fvu.items() if value < self.best.get(name, math.inf)}
        self.best |= fallen
        self.in_vain = 0 if fallen else self.in_vain + 1
        return self.patience is not None and self.in_vain >= self.patience


# weight of the newest batch in the running L0
NEWEST_WEIGHT = 0.1
# an L0 off by a factor of e over a whole run changes the coefficient by exp(REACH)
REACH = 30.0
LARGEST_LOG_RATIO = 1.0
# largest log ratio that the drift corrects; a larger one would overshoot after a bad start
LARGEST_DRIFT = 0.2
# keeps a coefficient without effect from going to infinity
LARGEST_CHANGE = 1e4


class L0Controller:
    """
    Controller that multiplies the sparsity coefficient at each step by (L0 / target) to a small power.

    The power is ``REACH`` over the number of steps, so long and short runs can correct equally; the L0 is a running
    mean. The L0 of an SAE falls as it learns, so errors also add up to a drift of the coefficient (the second integral
    of a critically damped loop). JumpReLU's thresholds move by at most the learning rate a step, so they are multiplied
    too.
    """

    def __init__(self, trainer: SAETrainer[Any, Any], target: float, total_steps: int) -> None:
        name = sparsity_coefficient(trainer.sae.cfg)
        assert name is not None
        self.scheduler = trainer.coefficient_schedulers[name]
        self.target = target
        self.power = REACH / total_steps
        self.start = self.scheduler.final_value
        self.threshold: torch.Tensor | None = getattr(trainer.sae, "threshold", None)
        self.running_l0: float | None = None
        self.drift = 0.0

    @torch.no_grad()
    def update(self, output: TrainStepOutput) -> None:
        l0 = averaged(output.feature_acts.count_nonzero().double()).item() / len(output.sae_in)
        self.running_l0 = l0 if self.running_l0 is None else (1 - NEWEST_WEIGHT) * self.running_l0 + NEWEST_WEIGHT * l0
        log_ratio = math.log(max(self.running_l0, 1e-3) / self.target)
        log_ratio = max(-LARGEST_LOG_RATIO, min(LARGEST_LOG_RATIO, log_ratio))
        most = self.power * LARGEST_DRIFT
        self.drift = max(-most, min(most, self.drift + self.power**2 / 4 * log_ratio))
        moved = self.scheduler.final_value * math.exp(self.power * log_ratio + self.drift)
        self.scheduler.final_value = max(self.start / LARGEST_CHANGE, min(self.start * LARGEST_CHANGE, moved))
        if self.threshold is not None:
            self.threshold *= math.exp(self.power * log_ratio)

    def state(self) -> dict[str, float | None]:
        """Return the state that the next corrections depend on, except the coefficient."""
        return {"running_l0": self.running_l0, "drift": self.drift, "start": self.start}

    def load(self, state: dict[str, float]) -> None:
        self.running_l0, self.drift, self.start = state["running_l0"], state["drift"], state["start"]
