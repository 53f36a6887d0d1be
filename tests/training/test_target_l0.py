"""L0s that are held at a target."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from sae_lens import StandardTrainingSAEConfig
from sae_lens.training.optim import CoefficientScheduler

from sae_lens_abstopk.training.step_control import L0Controller
from tests.training.exactness import rows_without_speed
from tests.training.runs import run_of


class SlowSAE:
    """An SAE whose L0 follows its coefficient with a lag: twenty steps to go most of the way to 100 / coefficient."""

    def __init__(self, coefficient: float) -> None:
        self.cfg = StandardTrainingSAEConfig(d_in=2, d_sae=4)
        self.scheduler = CoefficientScheduler(0, coefficient)
        self.trainer = SimpleNamespace(sae=self, coefficient_schedulers={"l1": self.scheduler})
        self.l0 = 100.0

    def step(self) -> Any:
        self.l0 += 0.05 * (100 / self.scheduler.step() - self.l0)
        acts = torch.zeros(50, 2000)
        acts[:, : round(self.l0)] = 1
        return SimpleNamespace(feature_acts=acts, sae_in=torch.zeros(50, 2))


@pytest.mark.parametrize("coefficient", [0.1, 1.0, 50.0])
@pytest.mark.parametrize("target", [10.0, 60.0])
def test_the_l0_is_brought_to_its_target_from_a_coefficient_far_off(coefficient: float, target: float) -> None:
    sae: Any = SlowSAE(coefficient)
    controller = L0Controller(sae.trainer, target, 600)
    for _ in range(600):
        controller.update(sae.step())
    assert abs(sae.l0 / target - 1) < 0.05


@pytest.mark.parametrize(("target", "side"), [(10.0, 1), (1000.0, -1)])
def test_thresholds_rise_where_the_l0_is_above_its_target_and_fall_where_it_is_below(target: float, side: int) -> None:
    sae: Any = SlowSAE(1.0)
    sae.threshold = torch.ones(4)
    L0Controller(sae.trainer, target, 600).update(sae.step())
    assert torch.equal((sae.threshold - 1).sign(), torch.full((4,), float(side)))


@pytest.mark.parametrize("architecture", ["standard", "gated"])
def test_in_training_the_coefficient_moves_towards_the_target(
    raw_config: dict[str, Any], tmp_path: Path, architecture: str
) -> None:
    moved = []
    for target in (1.0, 63.0):
        section = {"architecture": architecture, "l1_coefficient": 1e-3, "d_in": 32, "d_sae": 64}
        changes = {"sae": section, "target_l0": {"sae": target}, "output_path": str(tmp_path / str(target))}
        run = run_of(raw_config | changes)
        run.run()
        moved.append(run.trainers["sae"].coefficient_schedulers["l1"].final_value)
        logged = [float(row["sparsity_coefficient"]) for row in rows_without_speed(run.output)]
        assert logged[0] == 1e-3
        assert (logged[-1] > 1e-3) == (moved[-1] > 1e-3)
        metadata = json.loads((run.output / "cfg.json").read_text())["metadata"]
        assert (metadata["sparsity_coefficient"], metadata["target_l0"]) == (moved[-1], target)
    assert moved[0] > 1e-3 > moved[1]


def test_a_warm_up_that_never_ends_leaves_the_coefficient_that_was_reached(
    raw_config: dict[str, Any], tmp_path: Path
) -> None:
    section = {"architecture": "standard", "l1_coefficient": 1e-3, "l1_warm_up_steps": 1000, "d_in": 32, "d_sae": 64}
    changes = {"sae": section, "target_l0": {"sae": 8.0}, "output_path": str(tmp_path / "run")}
    run = run_of(raw_config | changes)
    run.run()
    recorded = json.loads((run.output / "cfg.json").read_text())["metadata"]["sparsity_coefficient"]
    logged = float(rows_without_speed(run.output)[-1]["sparsity_coefficient"])
    assert recorded == pytest.approx(logged, rel=0.5)
    assert recorded < run.trainers["sae"].coefficient_schedulers["l1"].final_value / 10
