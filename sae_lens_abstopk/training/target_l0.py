"""Steering the sparsity coefficient of an SAE towards an L0, so that architectures can be compared at equal L0."""

import math
from typing import Any

import torch
from sae_lens import SAETrainer
from sae_lens.saes.sae import TrainStepOutput

from sae_lens_abstopk.saes.sparsity import sparsity_coefficient
from sae_lens_abstopk.system.ranks import averaged

# weight of the newest batch in the running L0
NEWEST_WEIGHT = 0.1
# over a whole run with the L0 off by a factor of e, the coefficient would change by the exponential of this
REACH = 30.0
LARGEST_LOG_RATIO = 1.0
# the drift corrects for no more than a steady error of this log ratio, or it would overshoot after a bad start
LARGEST_DRIFT = 0.2
# a coefficient that has no effect is not driven to infinity
LARGEST_CHANGE = 1e4


class L0Controller:
    """
    Multiplies the coefficient of the sparsity loss, step by step, by (L0 / target) to a small power.

    The power is ``REACH`` over the number of steps, so that long and short runs have the same room for correction; the
    L0 is a running mean over about ten batches. The L0 of an SAE falls as it learns, and a correction by the present error
    alone would always lag behind that, so errors also add up to a drift that the coefficient follows (the second
    integral of a critically damped loop). The thresholds of JumpReLU move by no more than the learning rate a step, so
    their common scale is multiplied by the same small power too; how they differ from each other is learned.

    Args:
        trainer: Of an SAE with an L0 or L1 coefficient.
        target: Mean number of active latents per token.
        total_steps: Of the run.
    """

    def __init__(self, trainer: SAETrainer[Any, Any], target: float, total_steps: int) -> None:
        name = sparsity_coefficient(trainer.sae.cfg)
        assert name is not None  # the config has been checked
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
        log_ratio = math.log(max(self.running_l0, 1e-3) / self.target)
        log_ratio = max(-LARGEST_LOG_RATIO, min(LARGEST_LOG_RATIO, log_ratio))
        self.drift += self.power**2 / 4 * log_ratio
        self.drift = max(-self.power * LARGEST_DRIFT, min(self.power * LARGEST_DRIFT, self.drift))
        moved = self.scheduler.final_value * math.exp(self.power * log_ratio + self.drift)
        self.scheduler.final_value = max(self.start / LARGEST_CHANGE, min(self.start * LARGEST_CHANGE, moved))
        if self.threshold is not None:
            self.threshold *= math.exp(self.power * log_ratio)

    def state(self) -> dict[str, float | None]:
        """What the next corrections depend on, beside the coefficient."""
        return {"running_l0": self.running_l0, "drift": self.drift, "start": self.start}

    def load(self, state: dict[str, float]) -> None:
        """Go on from another controller's :meth:`state`."""
        self.running_l0, self.drift, self.start = state["running_l0"], state["drift"], state["start"]
