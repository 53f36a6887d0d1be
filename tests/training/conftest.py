"""Runs that are stopped."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sae_lens_abstopk.training import training_loop as loop_module
from tests.conftest import six_steps
from tests.training.runs import run_of, signals_in

OFTEN: dict[str, Any] = {"checkpoint_freq": 2, "perf_log_freq": 0}


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Send signals, as :func:`signals_in` has them, while the numbers of a step are being taken."""
    return lambda *args, **options: monkeypatch.setattr(loop_module, "step_metrics", signals_in(*args, **options))


@pytest.fixture(scope="session")
def stopped_folder(tiny_llama: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = run_of(six_steps(tiny_llama, texts, tmp_path_factory.mktemp("stopped") / "run") | OFTEN)
    run.run()
    (run.output / "sae_weights.safetensors").unlink()
    return run.output


@pytest.fixture
def stopped(raw_config: dict[str, Any], stopped_folder: Path) -> dict[str, Any]:
    """The config of a run of which only the checkpoints after steps 2, 4 and the metrics are left."""
    shutil.copytree(stopped_folder, raw_config["output_path"])
    return raw_config | OFTEN | {"resume_from_checkpoint": "newest"}
