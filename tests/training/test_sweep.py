from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.training.sweep import load_sweep, run_sweep


def test_a_sweep_runs_every_point_once(raw_config: dict[str, Any], tmp_path: Path) -> None:
    del raw_config["output_path"]
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(raw_config | {"training_tokens": 128, "perf_log_freq": 0}))
    sweep = {"runs": [{"config": str(tmp_path / "base.yaml"), "grid": {"sae.k": [2, 3], "seed": [0]}}]}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    runs = load_sweep(str(tmp_path / "sweep.yaml"), ["lr=1e-2"])
    assert [run.overrides for run in runs] == [("sae.k=2", "seed=0", "lr=1e-2"), ("sae.k=3", "seed=0", "lr=1e-2")]
    output = tmp_path / "runs"
    run_sweep(runs, output, console=Console(quiet=True))
    weights = sorted(output.glob("*/sae_weights.safetensors"))
    assert len(weights) == 2
    before = [path.stat().st_mtime_ns for path in weights]
    run_sweep(runs, output, console=Console(quiet=True))
    assert [path.stat().st_mtime_ns for path in weights] == before


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"run": []}, "a sweep has the keys runs"),
        ({"runs": [{"grid": {}}]}, r"runs\[0\] must have config"),
        ({"runs": [{"config": "gpt2", "grids": {}}]}, r"runs\[0\] must have config and may have variants and grid"),
    ],
)
def test_a_sweep_that_is_not_understood_is_refused(tmp_path: Path, content: Any, sentence: str) -> None:
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=sentence):
        load_sweep(str(tmp_path / "s.yaml"))


def test_an_unknown_sweep_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="one of paper"):
        load_sweep("papers")
