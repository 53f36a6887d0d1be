"""A run that was stopped and goes on is the run that was never stopped."""

import io
import json
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
from sae_lens_abstopk.training.config.config_file import load_config
from tests.cli.test_cli import invoke
from tests.training.runs import begin, differences, final_state, rows_without_speed, run_of, state_of

JUMPRELU = {"architecture": "jumprelu", "l0_coefficient": 1.0}
OTHERS = {"relu": {"architecture": "standard"}, "jumprelu": JUMPRELU, "topk": {"architecture": "batchtopk"}}
COMPANIONS = {"sae": {"architecture": "batch_abstopk"}, "companions": OTHERS, "dead_feature_window": 2}
COMPANIONS |= {"target_l0": {"jumprelu": 8.0, "relu": 30.0}, "lr_multiples": {"relu": 2.0}}
WHITENED = {
    "sae": {"architecture": "matryoshka_batch_abstopk", "normalize_activations": "covariance_whitening"},
    "companions": {"scaled": {"normalize_activations": "expected_average_only_in"}},
    "perf_log_freq": 4,  # a signal cuts a measurement, so none is in a step that is stopped
}


@pytest.mark.parametrize(
    "changes",
    [
        {"sae": {"unit_norm_encoder": True, "unit_norm_decoder": True, "pole_window": 3}, "max_norm_multiple": 1.2},
        COMPANIONS | {"lr_scheduler_name": "cosineannealing", "lr_warm_up_steps": 4, "feature_sampling_window": 7},
        WHITENED | {"prefetch_llm_batches": 3, "autocast_lm": True, "n_batches_for_norm_estimate": 3},
        {"activation_cache": "cache", "activations_mixing_fraction": 0.0},
        {"activation_cache": "cache", "n_batches_in_buffer": 8, "prefetch_llm_batches": 2},
    ],
    ids=["rows at norm 1", "companions, schedules", "whitened, prefetched, autocast", "cached", "cached, prefetched"],
)
def test_a_run_that_was_stopped_twice_ends_as_one_that_was_not(
    changes: dict[str, Any], raw_config: dict[str, Any], tmp_path: Path, stop_after: Callable[..., None]
) -> None:
    raw = raw_config | {"training_tokens": 64 * 14, "perf_log_freq": 0, "seed": 7} | changes
    raw |= {"sae": raw_config["sae"] | changes.get("sae", {}), "prefetch_llm_batches": 0}
    results = []
    for name, stops in (("whole", ()), ("stopped", ((3, signal.SIGTERM), (10, signal.SIGINT)))):
        raw["output_path"] = str(tmp_path / name)
        if "activation_cache" in changes:
            raw["activation_cache"] = str(tmp_path / f"{name} cache")
        for step, number in stops:
            stop_after(step, number)
            with pytest.raises(KeyboardInterrupt):
                run_of(raw, resume_from_checkpoint="newest").run()
            assert (tmp_path / name / "checkpoints" / str(64 * step)).is_dir()
        results.append(state_of(raw, resume_from_checkpoint="newest"))
        raw["prefetch_llm_batches"] = changes.get("prefetch_llm_batches", 0)  # which changes no number
    if raw["prefetch_llm_batches"]:  # a thread has read on, past the last step
        for result in results:
            del result["text"]
    assert differences(*results) == []


@pytest.mark.filterwarnings("ignore:the training text has ended")
def test_the_text_is_gone_on_with_in_a_later_epoch(
    raw_config: dict[str, Any], tmp_path: Path, stop_after: Callable[..., None]
) -> None:
    text = tmp_path / "short.jsonl"
    text.write_text("".join(json.dumps({"text": f"Sentence {i} of a short text, " * 8}) + "\n" for i in range(13)))
    raw = raw_config | {"dataset_path": str(text), "training_tokens": 64 * 110, "perf_log_freq": 0}
    whole = run_of(raw)
    whole.run()
    assert whole.activations_store.n_dataset_processed > 2 * 13
    raw["output_path"] = str(tmp_path / "stopped")
    stop_after(71)
    with pytest.raises(KeyboardInterrupt):
        run_of(raw).run()
    assert differences(final_state(whole), state_of(raw, resume_from_checkpoint="newest")) == []


def test_a_checkpoint_after_the_last_step_ends_the_run_alike_and_starts_another_from_its_weights(
    raw_config: dict[str, Any], tmp_path: Path
) -> None:
    raw = raw_config | {"companions": {"topk": {"architecture": "topk"}}, "save_final_checkpoint": True}
    run = run_of(raw)
    run.run()
    (last,) = (run.output / "checkpoints").iterdir()
    assert last.name == "384"
    again = run_of(raw, from_pretrained_path=str(last), training_tokens=768, output_path=str(tmp_path / "again"))
    for name, sae in run.saes.items():
        assert torch.equal(again.saes[name].W_dec, sae.W_dec)
    whole = final_state(run)
    (run.output / "sae_weights.safetensors").unlink()
    assert differences(whole, state_of(raw, resume_from_checkpoint="newest")) == []


def test_a_checkpoint_of_saelens_own_runner_is_told_of_by_its_name(raw_config: dict[str, Any], tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "trainer_state.pt").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"of SAELens's own runner, .* with from_pretrained_path='.*theirs'"):
        run_of(raw_config, resume_from_checkpoint=str(theirs))


def test_metrics_are_cut_back_to_the_checkpoint(stopped: dict[str, Any]) -> None:
    folder = Path(stopped["output_path"])
    assert [row["step"] for row in rows_without_speed(folder)] == ["1", "2", "3", "4", "5", "6"]
    with (folder / "metrics.csv").open("a") as file:
        file.write("7,448,0.1")  # torn
    begin(run_of(stopped))
    assert [row["step"] for row in rows_without_speed(folder)] == ["1", "2", "3", "4"]


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
    begin(run)
    assert f"no whole checkpoint in {root}; starting from the beginning" in said.getvalue()
    assert not (run.output / "metrics.csv").exists()


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


def test_files_of_the_user_are_not_written_over(raw_config: dict[str, Any]) -> None:
    folder = Path(raw_config["output_path"])
    folder.mkdir()
    (folder / "README.md").write_text("my notes")
    own = yaml.safe_dump(raw_config)
    (folder / "config.yaml").write_text(own)
    for resume in ([], ["--resume"]):
        refused = invoke("train", str(folder / "config.yaml"), *resume)
        assert refused.exit_code == 2
        assert "holds a config.yaml that no run wrote" in refused.stderr
    assert (folder / "config.yaml").read_text() == own
    (folder / "config.yaml").rename(folder / "mine.yaml")
    assert invoke("train", str(folder / "mine.yaml")).exit_code == 0
    assert (folder / "README.md").read_text() == "my notes"
    assert (folder / "mine.yaml").read_text() == own


def test_checkpoints_of_another_run_are_named_by_the_key_of_their_folder(stopped: dict[str, Any]) -> None:
    shared = str(Path(stopped["output_path"]) / "checkpoints")
    with pytest.raises(ConfigError, match=r"^checkpoint_path='.*checkpoints' already holds checkpoints .* --resume"):
        run_of(stopped, checkpoint_path=shared, output_path=f"{shared}-other", resume_from_checkpoint=None)


def test_saelens_s_own_nested_sae_is_gone_on_with(raw_config: dict[str, Any]) -> None:
    nested = {"architecture": "matryoshka_batchtopk", "d_in": 32, "d_sae": 64, "k": 4, "matryoshka_widths": [8, 16]}
    raw = raw_config | {"sae": nested, "checkpoint_freq": 4, "perf_log_freq": 0}
    folder = Path(raw["output_path"])
    run_of(raw).run()
    assert load_config(folder / "config.yaml").sae.matryoshka_widths == [8, 16, 64]
    (folder / "sae_weights.safetensors").unlink()
    run = run_of(raw | {"resume_from_checkpoint": "newest"})
    assert run.resumed == folder / "checkpoints" / "256"


def test_without_a_checkpoint_a_resumed_run_starts_and_a_finished_one_is_left_alone(raw_config: dict[str, Any]) -> None:
    raw = raw_config | {"resume_from_checkpoint": "newest"}
    run_of(raw).run()
    folder = Path(raw["output_path"])
    assert load_config(folder / "config.yaml").resume_from_checkpoint is None
    before = (folder / "sae_weights.safetensors").stat().st_mtime_ns
    with pytest.raises(ConfigError, match="holds a finished run"):
        run_of(raw)
    assert (folder / "sae_weights.safetensors").stat().st_mtime_ns == before


def test_the_command_resumes_with_and_without_a_path(stopped: dict[str, Any], tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump({key: value for key, value in stopped.items() if not key.startswith("resume")}))
    root = Path(stopped["output_path"]) / "checkpoints"
    for arguments, sentence in (
        (["--resume", str(tmp_path)], f"'{tmp_path}' is not a whole checkpoint: it has no checkpoint.json"),
        (["--resume", "sae.k=5"], "sae.k is 4 there, 5 here"),
        ([], "already holds a run (metrics.csv, checkpoints); name another folder"),
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
    folders = tmp_path / "elsewhere", Path(stopped["output_path"])
    assert differences(*map(rows_without_speed, folders)) == []
    assert len({(folder / "sae_weights.safetensors").read_bytes() for folder in folders}) == 1
    again = invoke("train", str(config), "--resume")
    assert again.exit_code == 0
    assert again.output == f"the run in {stopped['output_path']} is finished\n"
