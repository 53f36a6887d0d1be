"""What may be different in a run that goes on: what no step depends on, and the scale of the learning rate."""

import copy
import io
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.training import run as run_module
from sae_lens_abstopk.training.config.config_file import load_config
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from tests.cli.test_cli import invoke
from tests.training.runs import rows_without_speed, run_of


def test_another_config_is_refused_by_its_keys_unless_they_are_harmless(stopped: dict[str, Any]) -> None:
    changed = stopped | {"lr": 0.5, "sae": stopped["sae"] | {"k": 5}, "companions": {"topk": {"architecture": "topk"}}}
    with pytest.raises(ConfigError, match="of a run with other settings") as refused:
        run_of(changed)
    for sentence in ("lr is 0.001 there, 0.5 here", "sae.k is 4 there, 5 here", "companions.topk.k is 'not set' there"):
        assert sentence in str(refused.value)
    harmless = {"checkpoint_freq": 3, "checkpoints_kept": 1, "logger": {"wandb_log_frequency": 2}, "verbose": True}
    assert run_of(stopped, **harmless).resumed is not None
    shutil.rmtree(Path(stopped["output_path"]) / "checkpoints")
    with pytest.raises(ConfigError, match=r"lr is 0\.001 there, 0\.5 here"):
        run_of(changed)


def test_a_folder_without_a_key_that_was_added_later_is_of_the_same_run(stopped: dict[str, Any]) -> None:
    config = Path(stopped["output_path"]) / "config.yaml"
    document = yaml.safe_load(config.read_text())
    del document["checkpoint_freq"], document["shuffle"], document["sae"]["unit_norm_encoder"]
    config.write_text(yaml.safe_dump(document))
    assert run_of(stopped).resumed is not None
    with pytest.raises(ConfigError, match=r"sae\.unit_norm_encoder is False there, True here"):
        run_of(stopped, sae=stopped["sae"] | {"unit_norm_encoder": True})


def test_a_run_goes_on_on_another_device_and_says_so(raw_config: dict[str, Any]) -> None:
    raw, said = raw_config | {"checkpoint_freq": 4, "perf_log_freq": 0}, io.StringIO()
    run = run_of(raw, device="cpu:0")
    run.run()
    (run.output / "sae_weights.safetensors").unlink()
    run_of(raw | {"resume_from_checkpoint": "newest"}, Console(file=said, width=300)).run()
    assert "going on after step 4" in said.getvalue()
    assert "to the last bit: device=cpu:0 then, cpu now" in said.getvalue()


def test_a_rank_with_a_gpu_of_its_own_goes_on_with_the_run_of_all(
    stopped: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_own_device(cfg: TrainingConfig) -> TrainingConfig:
        own = copy.copy(cfg)
        own.llm_device = "cpu:0"
        return own

    monkeypatch.setattr(run_module, "of_this_rank", with_own_device)
    run = run_of(stopped)
    assert (run.cfg.llm_device, run.written_cfg.llm_device) == ("cpu:0", "cpu")
    run.run()
    assert load_config(run.output / "config.yaml").llm_device == "cpu"


@pytest.mark.parametrize("schedule", ["constant", "cosineannealing"])
def test_a_run_goes_on_at_another_learning_rate_where_it_is_allowed(
    raw_config: dict[str, Any], tmp_path: Path, schedule: str
) -> None:
    raw = raw_config | {"checkpoint_freq": 2, "perf_log_freq": 0, "lr_scheduler_name": schedule}
    raw |= {"lr_warm_up_steps": 3, "lr_decay_steps": 1, "training_tokens": 64 * 8}
    run_of(raw).run()
    output = Path(raw["output_path"])
    before = [float(row["learning_rate"]) for row in rows_without_speed(output)]
    for changed in (output, output / "checkpoints" / "384", output / "checkpoints" / "256"):
        (changed / "sae_weights.safetensors").unlink()
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(raw))
    refused = invoke("train", str(config), "lr=0.0002", "--resume")
    assert refused.exit_code == 2
    assert "lr may be changed with --allow-changes lr" in refused.stderr
    done = invoke("train", str(config), "lr=0.0002", "--resume", "--allow-changes", "lr")
    assert done.exit_code == 0, done.output
    assert "lr is 0.0002 from here on, 0.001 up to here" in done.output
    after = [float(row["learning_rate"]) for row in rows_without_speed(output)]
    assert after[:2] == before[:2]
    assert after[2:] == pytest.approx([0.2 * lr for lr in before[2:]], rel=1e-5)
    written = load_config(output / "config.yaml")
    assert (written.lr, written.resume_allows_changes) == (0.0002, ["lr"])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"lr": 0.5, "lr_end": 0.5, "resume_allows_changes": ["lr"]}, "lr is 0.001 there, 0.5 here; lr_end is 0.0001"),
        ({"lr": 0.5, "seed": 3, "resume_allows_changes": ["lr"]}, "other settings: seed is 42 there, 3 here"),
        ({"resume_allows_changes": ["seed"]}, "resume_allows_changes='seed' must be lr"),
    ],
)
def test_no_more_than_the_scale_of_the_learning_rate_can_change(
    stopped: dict[str, Any], changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        run_of(stopped, **changes)
    assert sentence in str(refused.value)


def test_another_text_under_the_same_name_is_refused(stopped: dict[str, Any], tmp_path: Path) -> None:
    text = tmp_path / "text.jsonl"
    shutil.copy(stopped["dataset_path"], text)
    raw = stopped | {"dataset_path": str(text), "resume_from_checkpoint": None, "output_path": str(tmp_path / "other")}
    run_of(raw).run()
    (tmp_path / "other" / "sae_weights.safetensors").unlink()
    text.write_text(text.read_text() + '{"text": "One more."}\n')
    with pytest.raises(ConfigError, match="had other files or sizes"):
        run_of(raw | {"resume_from_checkpoint": "newest"})
