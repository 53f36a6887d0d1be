"""A run that has diverged stops, with what was good kept; L0s are held at a target."""

import json
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from sae_lens import StandardTrainingSAEConfig
from sae_lens.training.optim import CoefficientScheduler

from sae_lens_abstopk.training import training_loop as loop_module
from sae_lens_abstopk.training.config.config_file import build_config, load_config
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.runner import TrainingRun
from sae_lens_abstopk.training.step_control import (
    STEPS_BETWEEN,
    WINDOW,
    DivergedError,
    DivergenceWatch,
    L0Controller,
)
from tests.cli.test_cli import invoke
from tests.training.runs import rows_without_speed, run_of

pytestmark = pytest.mark.slow


def feed(watch: DivergenceWatch, losses: list[float], start: int = 1) -> None:
    for step, loss in enumerate(losses, start):
        watch.note({"sae": torch.tensor(loss)}, step)


def test_the_median_follows_a_loss_that_falls_and_does_not_judge_before_it_is_full() -> None:
    watch = DivergenceWatch(10.0)
    feed(watch, [1.0] * (WINDOW - 1) + [1000.0])
    feed(watch, [0.001] * WINDOW, start=WINDOW + 1)
    feed(watch, [0.0099] * STEPS_BETWEEN, start=2 * WINDOW + 1)
    with pytest.raises(DivergedError, match=r"'sae' is 0\.0101 at step 220, and was over 0\.01 for 10 steps"):
        feed(watch, [0.0101] * STEPS_BETWEEN, start=2 * WINDOW + STEPS_BETWEEN + 1)


def harm_after(step: int, weight: str, factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Multiply a weight after a step, as a bad update would."""
    original = loop_module.step_metrics

    def harmful(trainer: Any, *args: Any) -> Any:
        if trainer.n_training_steps == step:
            getattr(trainer.sae, weight).data.mul_(factor)
        return original(trainer, *args)

    monkeypatch.setattr(loop_module, "step_metrics", harmful)


def test_a_diverging_run_stops_with_its_last_good_checkpoint_and_says_what_to_lower(
    raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    harm_after(125, "W_dec", 100.0, monkeypatch)
    changes = {"training_tokens": 64 * 300, "checkpoint_freq": 10, "perf_log_freq": 0}
    run = run_of(raw_config | changes)
    with pytest.raises(
        DivergedError, match=r"the loss of 'sae' is \S+ at step 135, and was over \S+ for 10 steps"
    ) as stopped:
        run.run()
    assert not (run.output / "sae_weights.safetensors").exists()
    newest = run.output / "checkpoints" / str(64 * 120)
    assert str(stopped.value).endswith(
        ": the run has diverged. Lower lr=0.001, or in a new run raise lr_warm_up_steps=0. The last good checkpoint is "
        f"{newest} (step 120); go on from it at a lower lr with: abstopk train {newest.parents[1] / 'config.yaml'} "
        "lr=0.00033 --resume --allow-changes lr"
    )
    kept = sorted(int(path.name) // 64 for path in newest.parent.iterdir())
    assert kept == [100, 110, 120]


def test_a_checkpoint_waits_for_a_loss_that_leapt_to_come_down(
    raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    harm_after(125, "W_dec", 100.0, monkeypatch)
    harm_after(131, "W_dec", 0.01, monkeypatch)
    changes = {"training_tokens": 64 * 136, "checkpoint_freq": 10, "perf_log_freq": 0}
    run = run_of(raw_config | changes)
    run.run()
    assert sorted(int(path.name) // 64 for path in (run.output / "checkpoints").iterdir()) == [110, 120, 132]


@pytest.mark.parametrize("lr_end", [{}, {"lr_end": 2e-4}], ids=["by default", "given"])
def test_the_command_that_a_diverged_run_prints_goes_on_at_the_lower_rate(
    raw_config: dict[str, Any], lr_end: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def command_after(cfg: TrainingConfig, step: int) -> list[str]:
        run = TrainingRun(cfg, console=Console(quiet=True))
        with monkeypatch.context() as patch:
            harm_after(step, "W_enc", float("nan"), patch)
            with pytest.raises(DivergedError) as stopped:
                run.run()
        return shlex.split(str(stopped.value).partition("with: abstopk ")[2])

    changes = {"checkpoint_freq": 2, "perf_log_freq": 0, "lr_decay_steps": 3} | lr_end
    command = command_after(build_config(raw_config | changes), 4)
    lower = load_config(command[1], [command[2], "resume_from_checkpoint=newest", "resume_allows_changes=[lr]"])
    assert lower.lr == 3.3e-4
    command = command_after(lower, 5)  # it diverges again
    done = invoke(*command)
    assert done.exit_code == 0, done.output
    output = Path(raw_config["output_path"])
    written = load_config(output / "config.yaml")
    assert (written.lr, written.lr_end) == pytest.approx((1.1e-4, 0.11 * lr_end.get("lr_end", 1e-4)))
    assert float(rows_without_speed(output)[-1]["learning_rate"]) < 1.1e-4


def test_weights_that_are_no_numbers_are_not_saved(raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    harm_after(4, "W_enc", float("nan"), monkeypatch)
    run = run_of(raw_config | {"checkpoint_freq": 2})
    with pytest.raises(DivergedError, match=r"weights of 'sae' are NaN or infinite after step 4: the run has diverged"):
        run.run()
    assert [path.name for path in (run.output / "checkpoints").iterdir()] == ["128"]


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
        moved.append(run.state.trainers["sae"].coefficient_schedulers["l1"].final_value)
        logged = [float(row["sparsity_coefficient"]) for row in rows_without_speed(run.output)]
        assert logged[0] == 1e-3
        assert (logged[-1] > 1e-3) == (moved[-1] > 1e-3)
        metadata = json.loads((run.output / "cfg.json").read_text())["metadata"]
        assert (metadata["sparsity_coefficient"], metadata["target_l0"]) == (moved[-1], target)
    assert moved[0] > 1e-3 > moved[1]
