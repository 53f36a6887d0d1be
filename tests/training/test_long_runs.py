"""Runs that are killed again and again, and runs that are long."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sae_lens_abstopk.training.config.config_file import build_config
from sae_lens_abstopk.training.runner import TrainingRun
from sae_lens_abstopk.training.training_loop import TrainingLoop

ROOT = Path(__file__).parents[2]
KILLS = 30
STEPS = 20_000


def resident_pages() -> int:
    """Memory that this process holds, in pages."""
    return int(Path("/proc/self/statm").read_text().split()[1])


@pytest.mark.slow
def test_a_run_killed_at_thirty_random_moments_ends_as_one_that_was_not(
    raw_config: dict[str, Any], tmp_path: Path
) -> None:
    raw = raw_config | {
        "training_tokens": 64 * 60,
        "checkpoint_freq": 3,
        "checkpoints_kept": 2,
        "perf_log_freq": 0,
        "seed": 5,
        "sae": raw_config["sae"] | {"architecture": "batch_abstopk", "unit_norm_encoder": True},
        "companions": {"topk": {"architecture": "topk"}},
    }
    config = tmp_path / "config.json"
    config.write_text(json.dumps(raw))
    command = [sys.executable, "-m", "tests.training.crash_trials", str(config), str(tmp_path), str(KILLS)]
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert len(told["moments"]) == KILLS
    for moment in ("start", "steps", "checkpoint"):
        assert told["moments"].count(moment) >= 3, told["moments"]
    assert len(told["differences"]) >= 3
    assert not any(told["differences"].values()), told["differences"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the memory of the process is read in /proc")
@pytest.mark.filterwarnings("ignore:All samples")
def test_memory_stays_flat_over_twenty_thousand_steps(
    raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = raw_config | {
        "train_batch_size_tokens": 8,
        "training_tokens": 8 * STEPS,
        "perf_log_freq": 5000,
        "checkpoint_freq": 4000,
        "logger": {"wandb_log_frequency": 10},
        "sae": raw_config["sae"] | {"d_sae": 32, "aux_loss_coefficient": 0.0},
    }
    run = TrainingRun(build_config(raw), console=Console(quiet=True))
    resident: dict[int, int] = {}
    original = TrainingLoop._measure_held_out

    def weigh(loop: TrainingLoop) -> Any:
        resident[run.state.trainers["sae"].n_training_steps] = resident_pages()
        return original(loop)

    monkeypatch.setattr(TrainingLoop, "_measure_held_out", weigh)
    run.run()
    assert list(resident) == [5000, 10_000, 15_000, STEPS]
    assert resident[STEPS] < 1.01 * resident[5000], resident
