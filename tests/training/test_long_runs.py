"""Runs that are killed again and again, and runs that are long."""

import os
import random
import signal
import sys
import time
from collections import Counter
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch

from sae_lens_abstopk.training import training_loop as loop_module
from sae_lens_abstopk.training.checkpoints import checkpoint, run_checkpoints
from sae_lens_abstopk.training.training_loop import TrainingLoop
from tests.training.runs import differences, run_of, state_of

KILLS, KILLS_A_RUN = 15, 3
STEPS = 6_000
STARTED, WRITING = b"s", b"w"


def live(raw: dict[str, Any], state: Path, tell: int) -> None:
    """Train to the end, telling the parent when the steps begin and with every file of a checkpoint."""

    def telling(letter: bytes, original: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            os.write(tell, letter)
            return original(*args, **options)

        return call

    loop_module.estimate_scales = telling(STARTED, loop_module.estimate_scales)
    checkpoint.sync = telling(WRITING, checkpoint.sync)
    run_checkpoints.save_state = telling(WRITING, run_checkpoints.save_state)
    torch.save(state_of(raw), state)


def begun(raw: dict[str, Any], state: Path) -> tuple[Any, int]:
    """A process that lives :func:`live`, and the pipe that it tells through."""
    hears, tell = os.pipe()
    process = get_context("fork").Process(target=live, args=(raw, state, tell))
    process.start()
    os.close(tell)
    return process, hears


def finish(raw: dict[str, Any], state: Path) -> float:
    """Let a run live to its end; the seconds between its first step and that."""
    process, hears = begun(raw, state)
    os.read(hears, 1)
    started = time.monotonic()
    while os.read(hears, 64):
        pass
    os.close(hears)
    process.join()
    assert process.exitcode == 0, "a run that was not killed failed"
    return time.monotonic() - started


def kill(raw: dict[str, Any], state: Path, *, steps_take: float, chance: random.Random) -> str:
    """Kill a run at a random moment: in its start, in its steps, or while it writes a checkpoint; returns which."""
    process, hears = begun(raw, state)
    moment = chance.choice(["steps", "steps", "checkpoint", "checkpoint", "start"])
    if moment == "start":
        time.sleep(chance.uniform(0, 0.3))
    elif os.read(hears, 1) == STARTED and moment == "steps":
        time.sleep(chance.uniform(0, steps_take))
    elif moment == "checkpoint":
        for _ in range(chance.randint(1, 25)):
            os.read(hears, 1)
        time.sleep(chance.uniform(0, 0.002))
    process.kill()
    process.join()
    os.close(hears)
    return moment if process.exitcode == -signal.SIGKILL else f"{moment}, too late"


@pytest.mark.slow
def test_a_run_killed_at_fifteen_random_moments_ends_as_one_that_was_not(
    raw_config: dict[str, Any], tmp_path: Path
) -> None:
    raw = raw_config | {
        "training_tokens": 64 * 60,
        "checkpoint_freq": 3,
        "checkpoints_kept": 2,
        "perf_log_freq": 0,
        "resume_from_checkpoint": "newest",
        "sae": raw_config["sae"] | {"architecture": "batch_abstopk", "unit_norm_encoder": True},
        "companions": {"topk": {"architecture": "topk"}},
    }
    whole, state = tmp_path / "whole.pt", tmp_path / "killed.pt"
    steps_take, chance = 0.5 * finish(raw, whole), random.Random(5)
    moments = Counter[str]()
    n_finished = 0
    while moments.total() < KILLS:
        output = tmp_path / f"run {moments.total()}"
        killed = raw | {"output_path": str(output)}
        for _ in range(min(KILLS_A_RUN, KILLS - moments.total())):
            moments[kill(killed, state, steps_take=steps_take, chance=chance)] += 1
            if (output / "sae_weights.safetensors").exists():
                break
        else:
            finish(killed, state)
            n_finished += 1
            assert differences(*(torch.load(path, weights_only=False) for path in (whole, state))) == []
    assert min(moments[moment] for moment in ("start", "steps", "checkpoint")) >= 2, moments
    assert n_finished >= 3


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the memory of the process is read in /proc")
@pytest.mark.filterwarnings("ignore:the training text has ended")
def test_memory_stays_flat_over_six_thousand_steps(raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"train_batch_size_tokens": 8, "training_tokens": 8 * STEPS, "perf_log_freq": 1500, "checkpoint_freq": 1200}
    sae = raw_config["sae"] | {"d_sae": 32, "aux_loss_coefficient": 0.0}
    run = run_of(raw_config | keys, sae=sae, logger={"wandb_log_frequency": 10})
    resident: dict[int, int] = {}  # memory that this process holds, in pages
    original = TrainingLoop._measure_held_out

    def weigh(loop: TrainingLoop, *args: Any) -> Any:
        resident[run.state.trainers["sae"].n_training_steps] = int(Path("/proc/self/statm").read_text().split()[1])
        return original(loop, *args)

    monkeypatch.setattr(TrainingLoop, "_measure_held_out", weigh)
    run.run()
    assert list(resident) == [1500, 3000, 4500, STEPS]
    assert resident[STEPS] < 1.003 * resident[1500], resident  # less than 400 bytes a step
