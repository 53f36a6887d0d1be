"""What an evaluation refuses before anything runs, and the results that it does not write over."""

import io
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from sae_lens import SAE
from typer.testing import CliRunner

from sae_lens_abstopk import ConfigError, evaluate
from sae_lens_abstopk.cli import app
from sae_lens_abstopk.evaluation.suite.evaluate import check_suite
from sae_lens_abstopk.evaluation.suite.suite import Suite, load_suite
from sae_lens_abstopk.evaluation.suite.suite_tasks import tasks_of_suite
from sae_lens_abstopk.system.folder_lock import run_folder_lock
from sae_lens_abstopk.training.config.config_file import build_config
from sae_lens_abstopk.training.train import train


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("task: [gender]", "task: extra inputs are not permitted; keys: name, reconstruction, tasks"),
        ("texts_per_pole: 0", "texts_per_pole: input should be greater than or equal to 1"),
        ("steering: {tasks: [gender], strengths: [0]}", "strengths.0: input should be greater than 0"),
        ("steering: {tasks: [gender], strengths: []}", "steering.strengths: tuple should have at least 1 item"),
        ("steering: {tasks: [gender], strengths: [1, 2, 1]}", "strengths: .*each strength must be given once"),
        ("steering: {tasks: [gender], strengths: [.inf]}", "strengths.0: input should be a finite number"),
        ("steering: {tasks: [gender], budget: .inf}", "steering.budget: input should be a finite number"),
        ("tasks: [size]\nsteering: {tasks: [gender]}", "steering.tasks has gender, missing from `tasks`"),
        (
            "tasks: [size, refusal]\nsteering: {tasks: [size], behaviour: {}}",
            "steering.behaviour.task='refusal' is not among steering.tasks",
        ),
        (
            "tasks: [size]\nsteering: {tasks: [size], behaviour: {n: 1}}",
            "steering.behaviour.n: extra .*; keys: task, ins",
        ),
        ("- 1", "the top level must be a mapping"),
    ],
)
def test_a_bad_suite_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(content)
    with pytest.raises(ConfigError, match=message):
        load_suite(tmp_path / "s.yaml")


def test_files_of_tasks_are_looked_for_beside_the_suite(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s.yaml").write_text("tasks: [size, temperature.yaml]\nsteering: {tasks: [temperature.yaml]}\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    suite = load_suite("../s.yaml")
    assert list(tasks_of_suite(suite)) == ["size", "temperature"]
    with pytest.raises(ConfigError, match="local='x' has nothing to replace"):
        tasks_of_suite(suite, local={"temperature.yaml": "x"})
    shutil.move(small["tasks"][0], elsewhere)
    assert load_suite("../s.yaml").tasks == ("size", "temperature.yaml"), "that of the current folder"


def test_what_does_not_exist_is_refused_before_anything_runs(
    tmp_path: Path, small: dict[str, Any], trained: Path
) -> None:
    with pytest.raises(
        ConfigError, match=r"suite 'ful' is neither a \.yaml file nor one of full, probing, public, quick, refusal"
    ):
        evaluate([trained], suite="ful", out=tmp_path)
    unprobed = Suite(tasks=("size",), steering={"tasks": ("gender",)})
    with pytest.raises(ConfigError, match=r"the suite: steering\.tasks has gender, missing from `tasks`"):
        evaluate([trained], suite=unprobed, out=tmp_path)
    with pytest.raises(ConfigError, match=r"not among the tasks .*temperature"):
        evaluate([trained], suite=Suite(**small), out=tmp_path, local={"sst2": tmp_path})
    with pytest.raises(ConfigError, match="no such folder; an SAE of the Hub is named RELEASE:SAE_ID"):
        evaluate([tmp_path / "nothing"], suite=Suite(**small), out=tmp_path)
    in_memory: Any = SAE.load_from_disk(trained)
    for given in (in_memory, [in_memory], {"mine": in_memory}):
        with pytest.raises(ConfigError, match=r"was given an SAE in memory; save it by save_model\(FOLDER\)"):
            evaluate(given, suite=Suite(**small), out=tmp_path)


def test_two_tasks_of_one_name_are_refused(trained: Path, small: dict[str, Any], tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "temperature.yaml"
    other.parent.mkdir()
    shutil.copyfile(small["tasks"][0], other)
    suite = Suite(**{**small, "tasks": (*small["tasks"], str(other)), "steering": None})
    with pytest.raises(ConfigError, match="two tasks named temperature"):
        evaluate([trained], suite=suite, out=tmp_path / "out")


def test_too_few_texts_and_unknown_groups_are_refused_before_anything_runs(
    trained: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    few = Suite(**{**small, "texts_per_pole": 4})
    with pytest.raises(
        ConfigError, match=r"task 'temperature', with 8 texts in use \(texts_per_pole .*needs at least 5"
    ):
        evaluate([trained], suite=few, out=tmp_path / "out")
    for seed in (-1, 2**32):
        with pytest.raises(ConfigError, match=f"seed={seed} must be a whole number from 0 to 4294967295"):
            evaluate([trained], suite=Suite(**small), out=tmp_path / "out", seed=seed)
    with pytest.raises(ConfigError, match="groups names yours, and the SAEs are called mine"):
        evaluate({"mine": trained}, suite=Suite(**small), out=tmp_path / "out", groups={"mine": "a", "yours": "a"})
    assert not (tmp_path / "out").exists()


def test_behaviour_is_refused_for_texts_that_are_no_instructions(
    trained: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    steering = {**small["steering"], "behaviour": {"task": small["tasks"][0]}}
    with pytest.raises(ConfigError, match=r"behaviour\.task='temperature' must be a refusal task"):
        evaluate([trained], suite=Suite(**{**small, "steering": steering}), out=tmp_path / "out")


def test_what_steering_would_stop_at_is_refused_before_anything_is_measured(
    trained: Path, raw_config: dict[str, Any], asking: dict[str, Any], chat_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="the tokenizer has no chat template"):
        evaluate([trained], suite=Suite(**asking), out=tmp_path / "out")
    cfg = shutil.copytree(trained, tmp_path / "normalising") / "cfg.json"
    cfg.write_text(cfg.read_text().replace('"normalize_activations": "none"', '"normalize_activations": "layer_norm"'))
    normalising = {"normalising": tmp_path / "normalising"}
    with pytest.raises(ConfigError, match=r"ask normalising .*normalises activations as it runs.* set questions: 0"):
        evaluate(normalising, suite=Suite(**asking), out=tmp_path / "out", model_name=str(chat_model))
    inside = {**raw_config, "hook_name": "blocks.2.hook_mlp_out", "model_class_name": "TransformerBridge"}
    of_mlp = train(build_config(inside | {"output_path": str(tmp_path / "mlp")}), console=Console(quiet=True)).folders[
        "sae"
    ]
    with pytest.raises(ConfigError, match=r"ask mlp .*hook_mlp_out' is not in .* set questions: 0"):
        evaluate({"mlp": of_mlp}, suite=Suite(**asking), out=tmp_path / "out", model_name=str(chat_model))
    assert not (tmp_path / "out" / "parts").exists()


def test_what_a_comparison_would_stop_at_is_refused_before_it_trains(
    tiny_llama: Path, raw_config: dict[str, Any], asking: dict[str, Any], chat_model: Path, tmp_path: Path
) -> None:
    check_suite(Suite(**asking), str(chat_model))
    with pytest.raises(ConfigError, match="the tokenizer has no chat template"):
        check_suite(Suite(**asking), str(tiny_llama))
    with pytest.raises(ConfigError, match="task 'nothing' is neither a"):
        check_suite(Suite(tasks=("nothing",)), str(tiny_llama))
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(raw_config))
    content = {"config": str(tmp_path / "base.yaml"), "k": [3], "seeds": [0], "variants": {"abstopk": {}}}
    (tmp_path / "comparison.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "suite.yaml").write_text("tasks: [nothing]\n")
    asked = ["compare", str(tmp_path / "comparison.yaml"), "--suite", str(tmp_path / "suite.yaml")]
    done = CliRunner().invoke(app, [*asked, "--out", str(tmp_path / "runs")])
    assert done.exit_code == 2, done.output
    assert "task 'nothing' is neither a" in " ".join(done.output.split())
    assert not (tmp_path / "runs").exists()


def test_results_are_not_written_over_by_those_of_other_saes_or_of_fewer_tasks(
    trained: Path, texts: Path, small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, out = Suite(**{**small, "steering": None, "untrained": False}), tmp_path / "out"
    evaluate({"mine": trained}, suite=suite, out=out, console=Console(file=(shown := io.StringIO())))
    assert "geometry: done" in shown.getvalue()
    before = (out / "results.json").read_text()
    with pytest.raises(ConfigError, match="would write over: the task temperature"):
        evaluate({"mine": trained}, suite=Suite(name="less", reconstruction={"tokens": 256}), out=out)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"write over: everything with seed 0 \(now 1\)"):
        evaluate({"mine": trained}, suite=suite, out=out, seed=1)
    other_text = shutil.copyfile(texts, tmp_path / "other.jsonl")
    with pytest.raises(ConfigError, match=r"write over: everything with text .* \(now other\.jsonl\)"):
        evaluate({"mine": trained}, suite=suite, out=out, text=str(other_text))
    with pytest.raises(ConfigError, match=r"write over: everything with held_out True \(now False\)"):
        evaluate({"mine": trained}, suite=suite, out=out, text=str(texts))
    again = shutil.copytree(trained, tmp_path / "again")
    sae = SAE.load_from_disk(again)
    sae.W_dec.data[0] += 1
    sae.save_model(again)
    with pytest.raises(ConfigError, match=r"would write over: the SAE mine \(.*Give another folder by --out"):
        evaluate({"mine": again}, suite=suite, out=out)
    assert (out / "results.json").read_text() == before
    both = evaluate({"renamed": trained, "again": again}, suite=suite, out=out)
    assert list(both.saes) == ["renamed", "again"]
    # as of Hub releases, whose weights are in no folder of ours
    with monkeypatch.context() as hub:
        for module in ("suite.evaluate", "results.sae_facts"):
            hub.setattr(sys.modules[f"sae_lens_abstopk.evaluation.{module}"], "weights_sha256", lambda _: None)
        evaluate({"mine": trained}, suite=suite, out=tmp_path / "hub")
        with pytest.raises(ConfigError, match="would write over: the SAE mine"):
            evaluate({"mine": again}, suite=suite, out=tmp_path / "hub")
    meanwhile = tmp_path / "meanwhile" / "results.json"
    with pytest.raises(ConfigError, match="would write over: the SAE mine"):
        evaluate(
            {"mine": again},
            suite=suite,
            out=meanwhile.parent,
            on_progress=lambda *_: meanwhile.write_text(before),
        )
    assert meanwhile.read_text() == before
    held = tmp_path / "held"
    with (
        run_folder_lock(held),
        pytest.raises(ConfigError, match=r"^out='.*held' is being written by process \d+ .*name another folder"),
    ):
        evaluate({"mine": trained}, suite=suite, out=held)
    (out / "results.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"is not a results file of this version: .* Move that file away"):
        evaluate({"mine": trained}, suite=suite, out=out)
