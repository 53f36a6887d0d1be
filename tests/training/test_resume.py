"""A run that was stopped and goes on is the run that was never stopped."""

import copy
import io
import json
import os
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.evaluation.provenance import environment
from sae_lens_abstopk.training import runner as runner_module
from sae_lens_abstopk.training.config import TrainingConfig
from sae_lens_abstopk.training.config_file import build_config, load_config
from sae_lens_abstopk.training.run_folder import write_config
from sae_lens_abstopk.training.runner import TrainingRun
from sae_lens_abstopk.training.same_run import require_same_run
from sae_lens_abstopk.training.training_state import environment_changes
from tests.test_cli import invoke
from tests.training.exactness import differences, final_state, rows

QUIET = Console(quiet=True)
StopAfter = Callable[[int], None]


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> StopAfter:
    """Send SIGTERM while the numbers of a step are being taken, once."""
    original = runner_module.step_metrics

    def arm(step: int) -> None:
        def once(trainer: Any, *args: Any) -> Any:
            if trainer.n_training_steps == step:
                monkeypatch.setattr(runner_module, "step_metrics", original)
                os.kill(os.getpid(), signal.SIGTERM)
            return original(trainer, *args)

        monkeypatch.setattr(runner_module, "step_metrics", once)

    return arm


def run_of(raw: dict[str, Any], console: Console = QUIET, **changes: Any) -> TrainingRun:
    return TrainingRun(build_config(raw | changes), console=console)


def state_of(raw: dict[str, Any], **changes: Any) -> dict[str, Any]:
    run = run_of(raw, **changes)
    run.run()
    return final_state(run)


RELU = {"architecture": "standard"}
JUMPRELU = {"architecture": "jumprelu", "l0_coefficient": 1.0}


@pytest.mark.parametrize(
    "changes",
    [
        {"sae": {"unit_norm_encoder": True, "unit_norm_decoder": True, "pole_window": 3}, "max_norm_multiple": 1.2},
        {
            "sae": {"architecture": "batch_abstopk"},
            "companions": {"relu": RELU, "jumprelu": JUMPRELU, "topk": {"architecture": "batchtopk"}},
            "target_l0": {"jumprelu": 8.0, "relu": 30.0},
            "lr_scheduler_name": "cosineannealing",
            "lr_warm_up_steps": 4,
            "dead_feature_window": 2,
            "feature_sampling_window": 7,
        },
        {
            "sae": {"architecture": "matryoshka_batch_abstopk", "normalize_activations": "covariance_whitening"},
            "companions": {"scaled": {"normalize_activations": "expected_average_only_in"}},
            "n_batches_for_norm_estimate": 3,
            "prefetch_llm_batches": 3,
            "autocast_lm": True,
            "perf_log_freq": 2,
        },
        {"activation_cache": "cache", "activations_mixing_fraction": 0.0},
    ],
    ids=["rows at norm 1", "companions and schedules", "whitened, prefetched, in autocast", "cached"],
)
def test_a_run_that_was_stopped_twice_ends_as_one_that_was_not(
    changes: dict[str, Any], raw_config: dict[str, Any], tmp_path: Path, stop_after: StopAfter
) -> None:
    raw = raw_config | {"training_tokens": 64 * 14, "perf_log_freq": 0, "seed": 7} | changes
    raw["sae"] = raw_config["sae"] | changes.get("sae", {})
    results = []
    for name, stops in (("whole", ()), ("stopped", (3, 10))):
        raw["output_path"] = str(tmp_path / name)
        if "activation_cache" in changes:
            raw["activation_cache"] = str(tmp_path / f"{name} cache")
        for step in stops:
            stop_after(step)
            with pytest.raises(KeyboardInterrupt):
                run_of(raw, resume_from_checkpoint="newest").run()
        results.append(state_of(raw, resume_from_checkpoint="newest"))
    assert differences(*results) == []


@pytest.mark.filterwarnings("ignore:All samples")
def test_the_text_is_gone_on_with_in_a_later_epoch(
    raw_config: dict[str, Any], tmp_path: Path, stop_after: StopAfter
) -> None:
    text = tmp_path / "short.jsonl"
    text.write_text("".join(json.dumps({"text": f"Sentence {i} of a short text, " * 8}) + "\n" for i in range(13)))
    raw = raw_config | {"dataset_path": str(text), "training_tokens": 64 * 110, "perf_log_freq": 0}
    whole = run_of(raw)
    whole.run()
    assert whole.store.n_dataset_processed > 2 * 13
    raw["output_path"] = str(tmp_path / "stopped")
    stop_after(71)
    with pytest.raises(KeyboardInterrupt):
        run_of(raw).run()
    assert differences(final_state(whole), state_of(raw, resume_from_checkpoint="newest")) == []


def test_checkpoints_change_nothing_and_the_last_few_are_kept(raw_config: dict[str, Any], tmp_path: Path) -> None:
    raw = raw_config | {"sae": raw_config["sae"] | {"unit_norm_encoder": True}}
    plain = state_of(raw)
    saving = state_of(raw, checkpoint_freq=1, checkpoints_kept=2, output_path=str(tmp_path / "saving"))
    assert differences(plain, saving) == []
    assert sorted(path.name for path in (tmp_path / "saving" / "checkpoints").iterdir()) == ["256", "320"]


@pytest.fixture
def stopped(raw_config: dict[str, Any]) -> dict[str, Any]:
    """The config of a run of which only the checkpoints after steps 2, 4 and the metrics are left."""
    raw = raw_config | {"checkpoint_freq": 2, "perf_log_freq": 0}
    run_of(raw).run()
    (Path(raw["output_path"]) / "sae_weights.safetensors").unlink()
    return raw | {"resume_from_checkpoint": "newest"}


def test_metrics_are_cut_back_to_the_checkpoint(stopped: dict[str, Any]) -> None:
    folder = Path(stopped["output_path"])
    assert [row["step"] for row in rows(folder)] == ["1", "2", "3", "4", "5", "6"]
    with (folder / "metrics.csv").open("a") as file:
        file.write("7,448,0.1")  # torn
    run_of(stopped)._prepare()
    assert [row["step"] for row in rows(folder)] == ["1", "2", "3", "4"]


def test_a_torn_checkpoint_is_named_and_skipped(stopped: dict[str, Any]) -> None:
    root = Path(stopped["output_path"]) / "checkpoints"
    weights = root / "256" / "trainer_state.pt"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    said = io.StringIO()
    assert run_of(stopped, Console(file=said)).resumed == root / "128"
    assert f"checkpoint {root / '256'} is skipped: trainer_state.pt is not what was written" in said.getvalue()
    for torn in root.iterdir():
        (torn / "checkpoint.json").unlink(missing_ok=True)
    run = run_of(stopped, Console(file=said))
    run._prepare()
    assert f"no whole checkpoint in {root}; starting from the beginning" in said.getvalue()
    assert not (run.output / "metrics.csv").exists()


def test_a_named_checkpoint_can_be_gone_on_from(stopped: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = Path(stopped["output_path"]) / "checkpoints" / "128"
    whole = state_of(stopped, resume_from_checkpoint=None, output_path=str(tmp_path / "whole"))
    elsewhere = {"resume_from_checkpoint": str(checkpoint), "output_path": str(tmp_path / "elsewhere")}
    assert differences(whole, state_of(stopped, **elsewhere)) == []
    (checkpoint / "state.json").unlink()
    with pytest.raises(ConfigError, match=r"128' is no whole checkpoint: state\.json is missing\. Name another one"):
        run_of(stopped, **(elsewhere | {"output_path": str(tmp_path / "again")}))


def test_what_a_run_went_back_from_is_not_its_newest_checkpoint(stopped: dict[str, Any]) -> None:
    root = Path(stopped["output_path"]) / "checkpoints"
    shutil.copytree(root / "256", root / "320")
    said = io.StringIO()
    raw = stopped | {"resume_from_checkpoint": str(root / "256"), "checkpoint_freq": 0}
    run_of(raw, console=Console(file=said, width=300)).run()
    assert sorted(path.name for path in root.iterdir()) == ["128", "256", "abandoned-320-1"]
    assert f"a newer checkpoint was renamed to {root / 'abandoned-320-1'}" in said.getvalue()
    (Path(stopped["output_path"]) / "sae_weights.safetensors").unlink()
    assert run_of(stopped).resumed == root / "256"


def test_what_had_been_gone_back_from_can_be_gone_on_from(stopped: dict[str, Any]) -> None:
    root = Path(stopped["output_path"]) / "checkpoints"
    (root / "256").rename(root / "abandoned-256-1")
    run_of(stopped | {"checkpoint_freq": 1, "resume_from_checkpoint": str(root / "128")}).run()
    (Path(stopped["output_path"]) / "sae_weights.safetensors").unlink()
    assert {"256", "320", "abandoned-256-1"} <= {path.name for path in root.iterdir()}
    raw = stopped | {"checkpoint_freq": 0, "resume_from_checkpoint": str(root / "abandoned-256-1")}
    run_of(raw).run()
    assert {path.name for path in root.iterdir()} == {"192", "abandoned-256-1", "abandoned-256-2", "abandoned-320-1"}


def test_files_of_the_user_are_not_written_over(raw_config: dict[str, Any]) -> None:
    folder = Path(raw_config["output_path"])
    folder.mkdir()
    (folder / "README.md").write_text("my notes")
    own = yaml.safe_dump(raw_config)
    (folder / "config.yaml").write_text(own)
    for resume in ([], ["--resume"]):
        refused = invoke("train", str(folder / "config.yaml"), *resume)
        assert refused.exit_code == 2
        assert "holds a config.yaml that no run wrote, and the run would write its own there" in refused.stderr
    assert (folder / "config.yaml").read_text() == own
    (folder / "config.yaml").rename(folder / "mine.yaml")
    assert invoke("train", str(folder / "mine.yaml")).exit_code == 0
    assert (folder / "README.md").read_text() == "my notes"
    assert (folder / "mine.yaml").read_text() == own


def test_checkpoints_of_another_run_are_named_by_the_key_of_their_folder(
    raw_config: dict[str, Any], tmp_path: Path
) -> None:
    raw = raw_config | {"checkpoint_path": str(tmp_path / "shared"), "checkpoint_freq": 2}
    run_of(raw).run()
    with pytest.raises(
        ConfigError, match=r"^checkpoint_path='.*shared' already holds checkpoints of a run; name another"
    ):
        run_of(raw, output_path=str(tmp_path / "other"))


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


def test_a_companion_without_a_key_that_was_added_later_is_the_same(raw_config: dict[str, Any], tmp_path: Path) -> None:
    raw = raw_config | {"companions": {"topk": {"architecture": "topk"}}}
    write_config(tmp_path, build_config(raw))
    config = tmp_path / "config.yaml"
    document = yaml.safe_load(config.read_text())
    del document["companions"]["topk"]["aux_loss_coefficient"]
    config.write_text(yaml.safe_dump(document))
    require_same_run(tmp_path, build_config(raw))
    raw["companions"]["topk"] |= {"aux_loss_coefficient": 0.5}
    with pytest.raises(ConfigError, match=r"companions\.topk\.aux_loss_coefficient is 1\.0 there, 0\.5 here"):
        require_same_run(tmp_path, build_config(raw))


def test_another_version_of_what_orders_the_text_is_announced(tmp_path: Path) -> None:
    now = environment()
    then = {name: version for name, version in now.items() if name != "numpy"} | {"datasets": "3.1.0"}
    (tmp_path / "state.json").write_text(json.dumps({"environment": then}))
    assert environment_changes(tmp_path) == [f"datasets 3.1.0 then, {now['datasets']} now"]


def test_saelens_s_own_nested_sae_is_gone_on_with(raw_config: dict[str, Any]) -> None:
    nested = {"architecture": "matryoshka_batchtopk", "d_in": 32, "d_sae": 64, "k": 4, "matryoshka_widths": [8, 16]}
    raw = raw_config | {"sae": nested, "checkpoint_freq": 4, "perf_log_freq": 0}
    folder = Path(raw["output_path"])
    run_of(raw).run()
    assert load_config(folder / "config.yaml").sae.matryoshka_widths == [8, 16, 64]
    (folder / "sae_weights.safetensors").unlink()
    run = run_of(raw | {"resume_from_checkpoint": "newest"})
    assert run.resumed == folder / "checkpoints" / "256"


def test_the_device_that_the_saes_were_moved_to_is_no_setting(stopped: dict[str, Any]) -> None:
    raw = stopped | {"companions": {"topk": {"architecture": "topk"}}, "output_path": stopped["output_path"] + "2"}
    cfg = build_config(raw | {"resume_from_checkpoint": None})
    for sae in cfg.all_saes.values():
        sae.device = "cuda:0"  # as SAELens notes it when an SAE is moved
    folder = Path(raw["output_path"])
    folder.mkdir()
    write_config(folder, cfg)
    document = yaml.safe_load((folder / "config.yaml").read_text())
    assert "device" not in document["sae"]
    assert "device" not in document["companions"]["topk"]
    require_same_run(folder, build_config(raw))


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

    monkeypatch.setattr(runner_module, "of_this_rank", with_own_device)
    run = run_of(stopped)
    assert (run.cfg.llm_device, run.given.llm_device) == ("cpu:0", "cpu")
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
    before = [float(row["learning_rate"]) for row in rows(output)]
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
    after = [float(row["learning_rate"]) for row in rows(output)]
    assert after[:2] == before[:2]
    assert after[2:] == pytest.approx([0.2 * lr for lr in before[2:]], rel=1e-5)
    written = load_config(output / "config.yaml")
    assert (written.lr, written.resume_allows_changes) == (0.0002, ["lr"])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"lr": 0.5, "lr_end": 0.5, "resume_allows_changes": ["lr"]}, "lr is 0.001 there, 0.5 here; lr_end is 0.0001"),
        ({"lr": 0.5, "seed": 3, "resume_allows_changes": ["lr"]}, "other settings: seed is 42 there, 3 here"),
        ({"resume_allows_changes": ["seed"]}, "names 'seed'; of the keys that affect the steps, only lr can change"),
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
    with pytest.raises(ConfigError, match="has other files, or other sizes of them, than when"):
        run_of(raw | {"resume_from_checkpoint": "newest"})


def test_without_a_checkpoint_a_resumed_run_starts_and_a_finished_one_is_left_alone(raw_config: dict[str, Any]) -> None:
    raw = raw_config | {"resume_from_checkpoint": "newest"}
    run_of(raw).run()
    folder = Path(raw["output_path"])
    assert load_config(folder / "config.yaml").resume_from_checkpoint is None
    before = (folder / "sae_weights.safetensors").stat().st_mtime_ns
    with pytest.raises(ConfigError, match="holds a run that is finished"):
        run_of(raw)
    (folder / "config.yaml").unlink()
    with pytest.raises(ConfigError, match="finished"):
        run_of(raw)
    assert (folder / "sae_weights.safetensors").stat().st_mtime_ns == before


def test_a_second_signal_stops_at_once_and_its_echo_does_not(
    raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sae_lens_abstopk.training.interruption.ECHO", 0.0)
    run = run_of(raw_config | {"companions": {"topk": {"architecture": "topk"}}})
    original = runner_module.step_metrics

    def press(*args: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return original(*args)

    monkeypatch.setattr(runner_module, "step_metrics", press)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert not (run.output / "checkpoints").exists()


@pytest.mark.parametrize("error", [ConnectionError("the Hub is gone"), ConfigError("the cache is damaged")])
def test_text_that_ends_in_an_error_loses_no_step(
    raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    raw_config |= {"perf_log_freq": 0}
    whole = state_of(raw_config | {"output_path": f"{raw_config['output_path']}-whole"})
    run = run_of(raw_config)
    original = run.activations_store.get_raw_llm_batch

    def broken(raise_on_epoch_end: bool = False) -> Any:
        if run.trainers["sae"].n_training_steps >= 3:
            raise error
        return original(raise_on_epoch_end)

    monkeypatch.setattr(run.activations_store, "get_raw_llm_batch", broken)
    with pytest.raises(type(error), match=str(error)):
        run.run()
    (checkpoint,) = (run.output / "checkpoints").iterdir()
    assert int(checkpoint.name) >= 3 * 64
    assert differences(whole, state_of(raw_config, resume_from_checkpoint="newest")) == []


def test_a_measurement_that_fails_loses_no_step(
    raw_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_of(raw_config | {"output_path": str(tmp_path / "whole")}).run()
    run = run_of(raw_config)
    with monkeypatch.context() as patched:
        patched.setattr(runner_module, "evaluate_reconstruction", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run.run()
    assert [path.name for path in (run.output / "checkpoints").iterdir()] == [str(3 * 64)]
    resumed = run_of(raw_config | {"resume_from_checkpoint": "newest"}).run()
    assert torch.equal(resumed.W_dec, whole.W_dec)


def test_signals_before_the_first_step_leave_nothing_to_save(
    raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(raw_config)
    monkeypatch.setattr(runner_module, "estimate_scales", lambda *_, **__: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert not (run.output / "checkpoints").exists()


def test_a_note_says_when_the_environment_has_changed(stopped: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sae_lens_abstopk.training.training_state.environment", lambda: {"torch": "0.1"})
    said = io.StringIO()
    run_of(stopped, Console(file=said))._prepare()
    assert "not be those of an uninterrupted run to the last bit: torch" in said.getvalue()


def test_the_command_resumes_with_and_without_a_path(stopped: dict[str, Any], tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump({key: value for key, value in stopped.items() if not key.startswith("resume")}))
    root = Path(stopped["output_path"]) / "checkpoints"
    for arguments, sentence in (
        (
            ["--resume", str(tmp_path)],
            f"resume_from_checkpoint='{tmp_path}' is no whole checkpoint: it has no checkpoin",
        ),
        (["--resume", "sae.k=5"], "sae.k is 4 there, 5 here"),
        (
            [],
            "already holds a run (metrics.csv, checkpoints); choose another folder, move that one away, or go on with",
        ),
    ):
        refused = invoke("train", str(config), *arguments)
        assert refused.exit_code == 2
        assert sentence in refused.stderr
    like_an_override = tmp_path / "layer=3" / "128"
    shutil.copytree(root / "128", like_an_override)
    elsewhere = invoke("train", str(config), "--resume", str(like_an_override), "-o", str(tmp_path / "elsewhere"))
    assert f"going on after step 2 from {like_an_override}" in elsewhere.output
    done = invoke("train", str(config), "--resume", "verbose=false")
    assert done.exit_code == 0, done.output
    assert f"going on after step 4 from {root / '256'}" in done.output
    assert differences(rows(tmp_path / "elsewhere"), rows(Path(stopped["output_path"]))) == []
    again = invoke("train", str(config), "--resume")
    assert again.exit_code == 0
    assert again.output == f"the run in {stopped['output_path']} is finished\n"


def test_what_a_stopped_run_prints_goes_on_with_it(raw_config: dict[str, Any], stop_after: StopAfter) -> None:
    said = io.StringIO()
    run = run_of(raw_config, Console(file=said, width=500))
    stop_after(4)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert "SIGTERM: stopping after this step" in said.getvalue()
    command = said.getvalue().splitlines()[-1].removeprefix("go on with: abstopk ")
    done = invoke(*shlex.split(command))
    assert done.exit_code == 0, done.output
    assert "going on after step 4" in done.output
