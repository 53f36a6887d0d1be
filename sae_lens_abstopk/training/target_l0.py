"""Adjust the sparsity coefficient of an SAE towards a target L0, so that architectures compare at equal L0."""

import math
from typing import Any

import torch
from sae_lens import SAETrainer
from sae_lens.saes.sae import TrainStepOutput

from sae_lens_abstopk.saes.traits import sparsity_coefficient
from sae_lens_abstopk.system.ranks import averaged

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
    mean. The L0 of an SAE falls as it learns, and a correction by the present error only would lag behind, so errors
    also add up to a drift of the coefficient (the second integral of a critically damped loop). JumpReLU's thresholds
    move by at most the learning rate a step, so they are multiplied by the same small power.
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
        """Correct the coefficient after a step."""
        l0 = averaged(output.feature_acts.count_nonzero().double()).item() / len(output.sae_in)
        self.running_l0 = l0 if self.running_l0 is None else (1 - NEWEST_WEIGHT) * self.running_l0 + NEWEST_WEIGHT * l0
        log_ratio = _clamp(math.log(max(self.running_l0, 1e-3) / self.target), LARGEST_LOG_RATIO)
        self.drift = _clamp(self.drift + self.power**2 / 4 * log_ratio, self.power * LARGEST_DRIFT)
        moved = self.scheduler.final_value * math.exp(self.power * log_ratio + self.drift)
        self.scheduler.final_value = max(self.start / LARGEST_CHANGE, min(self.start * LARGEST_CHANGE, moved))
        if self.threshold is not None:
            self.threshold *= math.exp(self.power * log_ratio)

    def state(self) -> dict[str, float | None]:
        """Return the state that the next corrections depend on, except the coefficient."""
        return {"running_l0": self.running_l0, "drift": self.drift, "start": self.start}

    def load(self, state: dict[str, float]) -> None:
        """Continue from another controller's :meth:`state`."""
        self.running_l0, self.drift, self.start = state["running_l0"], state["drift"], state["start"]


def _clamp(value: float, bound: float) -> float:
    return max(-bound, min(bound, value))
