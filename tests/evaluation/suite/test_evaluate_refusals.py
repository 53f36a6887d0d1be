"""Mistakes that an evaluation refuses before anything runs, and results that it does not overwrite."""

import io
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from sae_lens import SAE

from sae_lens_abstopk import ConfigError, compare, evaluate
from sae_lens_abstopk.evaluation.results import facts
from sae_lens_abstopk.evaluation.results.schema import read_results
from sae_lens_abstopk.evaluation.suite import results_folder
from sae_lens_abstopk.evaluation.suite.evaluate import check_suite
from sae_lens_abstopk.evaluation.suite.suite import Suite, load_suite, tasks_of_suite
from sae_lens_abstopk.system.folder_lock import run_folder_lock
from sae_lens_abstopk.training.config.config_file import build_config
from sae_lens_abstopk.training.train import train

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("task: [gender]", "unknown key 'task'; did you mean 'tasks'.* keys here: name, reconstruction, tasks"),
        ("texts_per_pole: 0", "texts_per_pole=0: input should be greater than or equal to 1"),
        ("steering: {tasks: [gender], strengths: [0]}", "strengths.0=0: input should be greater than 0"),
        ("steering: {tasks: [gender], strengths: [.inf]}", "strengths.0=inf: input should be a finite number"),
        ("steering: {tasks: [size], behaviour: {n: 1}}", "steering.behaviour: unknown key 'n'; keys here: task, inst"),
        ("tasks: [size]\nsteering: {tasks: [gender]}", "steering.tasks has gender, missing from `tasks`"),
        ("tasks: [size]\nsteering: {tasks: [size], behaviour: {}}", "behaviour.task='refusal' is not among"),
        ("tasks: [size, there/size.yaml]", "the task 'size' comes twice"),
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


def test_mistakes_are_refused_before_anything_runs(tmp_path: Path, small: dict[str, Any], trained: Path) -> None:
    in_memory: Any = SAE.load_from_disk(trained)
    behaviour = {**small["steering"], "behaviour": {"task": small["tasks"][0]}}
    mistakes: list[tuple[Any, dict[str, Any], str]] = [
        ([trained], {"suite": "ful"}, r"suite='ful' must be one of full, probing.* \.yaml file"),
        ([trained], {"local": {"sst2": tmp_path}}, "task='sst2' must be temperature"),
        ([tmp_path / "nothing"], {}, "no such folder; an SAE of the Hub is named RELEASE:SAE_ID"),
        ([trained], {"suite": Suite(**{**small, "texts_per_pole": 4})}, "texts_per_pole=4: .*needs at least 5"),
        ([trained], {"suite": Suite(**{**small, "steering": behaviour})}, "'temperature' must be a refusal task"),
        ({"mine": trained}, {"groups": {"yours": "a"}}, "groups: SAE='yours' must be mine"),
        ([trained], {"seed": -1}, "seed=-1 must be at least 0 and at most 4294967295"),
        *((saes, {}, r"save the one in memory by save_model\(FOLDER\)") for saes in (in_memory, {"a": in_memory})),
    ]
    for saes, options, message in mistakes:
        with pytest.raises(ConfigError, match=message):
            evaluate(saes, **{"suite": Suite(**small), "out": tmp_path / "out"} | options)
    assert not (tmp_path / "out").exists()


def test_steering_that_cannot_run_is_refused_before_anything_is_measured(
    trained: Path, raw_config: dict[str, Any], asking: dict[str, Any], chat_model: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"suite": Suite(**asking), "out": tmp_path / "out"}
    with pytest.raises(ConfigError, match="tokenizer's chat template is missing"):
        evaluate([trained], **options)
    cfg = shutil.copytree(trained, tmp_path / "normalising") / "cfg.json"
    cfg.write_text(cfg.read_text().replace('"normalize_activations": "none"', '"normalize_activations": "layer_norm"'))
    normalising = {"normalising": tmp_path / "normalising"}
    with pytest.raises(ConfigError, match=r"for normalising: .*scales each activation"):
        evaluate(normalising, **options, model_name=str(chat_model))
    inside = {"hook_name": "blocks.2.hook_mlp_out", "model_class_name": "TransformerBridge"}
    config = build_config({**raw_config, **inside, "output_path": str(tmp_path / "mlp")})
    of_mlp = train(config, console=Console(quiet=True)).folders["sae"]
    with pytest.raises(ConfigError, match=r"for mlp: .*hook_mlp_out' is not in .* set questions: 0"):
        evaluate({"mlp": of_mlp}, **options, model_name=str(chat_model))
    assert not (tmp_path / "out" / "parts").exists()


def test_a_comparison_that_cannot_be_evaluated_is_refused_before_it_trains(
    tiny_llama: Path, raw_config: dict[str, Any], asking: dict[str, Any], chat_model: Path, tmp_path: Path
) -> None:
    check_suite(Suite(**asking), str(chat_model))
    with pytest.raises(ConfigError, match="tokenizer's chat template is missing"):
        check_suite(Suite(**asking), str(tiny_llama))
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(raw_config))
    content = {"config": str(tmp_path / "base.yaml"), "k": [3], "seeds": [0], "variants": {"abstopk": {}}}
    (tmp_path / "comparison.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match="task='nothing' must be"):
        compare(tmp_path / "comparison.yaml", out=tmp_path / "runs", suite=Suite(tasks=("nothing",)))
    assert not (tmp_path / "runs").exists()


def test_results_are_not_overwritten_by_those_of_other_saes_or_of_fewer_tasks(
    trained: Path, texts: Path, small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, out = Suite(**{**small, "steering": None, "untrained": False}), tmp_path / "out"
    evaluate({"mine": trained}, suite=suite, out=out, console=Console(file=(shown := io.StringIO())))
    assert "geometry: done" in shown.getvalue()
    before = (out / "results.json").read_text()
    other_text = shutil.copyfile(texts, tmp_path / "other.jsonl")
    again = shutil.copytree(trained, tmp_path / "again")
    sae = SAE.load_from_disk(again)
    sae.W_dec.data[0] += 1
    sae.save_model(again)
    less: Any = Suite(name="less", reconstruction={"tokens": 256})  # type: ignore[arg-type]
    for saes, options, lost in (
        ({"mine": trained}, {"suite": less}, "the task temperature"),
        ({"mine": trained}, {"seed": 1}, r"everything with seed 0 \(now 1\)"),
        ({"mine": trained}, {"text": str(other_text)}, r"everything with text .* \(now other\.jsonl\)"),
        ({"mine": trained}, {"text": str(texts)}, r"everything with held_out True \(now False\)"),
        ({"mine": again}, {}, r"the SAE mine \(.*Give another folder by --out"),
    ):
        with pytest.raises(ConfigError, match=f"would write over: {lost}"):
            evaluate(saes, **{"suite": suite, "out": out} | options)
    assert (out / "results.json").read_text() == before
    with monkeypatch.context() as hub:  # the weights of Hub releases are in no local folder
        for module in (facts, results_folder):
            hub.setattr(module, "weights_sha256", lambda _: None)
        document = read_results(out / "results.json")
        document.saes["mine"].weights_sha256 = None
        (tmp_path / "hub").mkdir()
        document.write(tmp_path / "hub" / "results.json")
        with pytest.raises(ConfigError, match="would write over: the SAE mine"):
            evaluate({"mine": again}, suite=suite, out=tmp_path / "hub")
    both = evaluate({"renamed": trained, "again": again}, suite=suite, out=out)
    assert list(both.saes) == ["renamed", "again"]
    held = tmp_path / "held"
    with run_folder_lock(held), pytest.raises(ConfigError, match=r"^out='.*held' is being written by process \d+"):
        evaluate({"mine": trained}, suite=suite, out=held)
    (out / "results.json").write_text("{}")
    with pytest.raises(ConfigError, match="Move that file away"):
        evaluate({"mine": trained}, suite=suite, out=out)
