"""The evaluation suite on tiny models: whole documents, resumption, and what is refused before anything runs."""

import json
import shutil
import sys
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from sae_lens import SAE, TopKSAE, TopKSAEConfig
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

from sae_lens_abstopk import ConfigError, compare, evaluate
from sae_lens_abstopk.cli import app
from sae_lens_abstopk.evaluation import evaluate as evaluation
from sae_lens_abstopk.evaluation import provenance, steering_part
from sae_lens_abstopk.evaluation.evaluate import check_suite
from sae_lens_abstopk.evaluation.loading import open_subjects
from sae_lens_abstopk.evaluation.passes.token_filter import TokenFilter
from sae_lens_abstopk.evaluation.probing_part import probe_on_task
from sae_lens_abstopk.evaluation.records import run_facts
from sae_lens_abstopk.evaluation.reports.markdown_report import markdown_report
from sae_lens_abstopk.evaluation.reports.merged_results import merge_results
from sae_lens_abstopk.evaluation.results import read_results
from sae_lens_abstopk.evaluation.steering.latent_scale import LatentScales
from sae_lens_abstopk.evaluation.steering_part import steer_on_task
from sae_lens_abstopk.evaluation.suite import SteeringOptions, Suite, load_suite, suite_names
from sae_lens_abstopk.evaluation.suite_tasks import tasks_of_suite
from sae_lens_abstopk.evaluation.tasks.task import task_names
from sae_lens_abstopk.training.config_file import build_config
from sae_lens_abstopk.training.runner import train
from tests.evaluation.steerable import topk_sae

QUIET = Console(quiet=True)
SMALL: dict[str, Any] = {
    "name": "small",
    "reconstruction": {"tokens": 256},
    "tasks": ("CONCEPT",),
    "texts_per_pole": 30,
    "steering": {
        "tasks": ("CONCEPT",),
        "strengths": (1.0, 3.0),
        "samples": 2,
        "max_new_tokens": 4,
        "random_directions": 1,
        "candidates": 3,
    },
}


CONCEPT = """\
name: temperature
poles: [hot, cold]
licence: MIT
source: written for this test
reads: [last, mean]
fillers:
  thing: [soup, tea, bath, stone, river, room]
templates:
  - "The {thing} was {hot|cold}."
  - "We found the {thing} {warm|cool}."
  - "A {boiling|freezing} {thing} stood there."
  - "Nobody touched the {scalding|icy} {thing}."
  - "The {thing} felt {hot|cold} to her."
  - "He said the {thing} was {warm|cool} again."
  - "Every {thing} here is {hot|cold} at night."
steering:
  prompts: ["The water is", "This room feels", "The stone is", "It was"]
  tokens: {hot: ["x"], cold: ["q"]}
  scorer: {kind: words, hot: [hot, warm], cold: [cold, cool]}
"""


@pytest.fixture
def small(tmp_path: Path) -> dict[str, Any]:
    """Keys of a suite of one concept."""
    path = tmp_path / "temperature.yaml"
    path.write_text(CONCEPT)
    return {**SMALL, "tasks": (str(path),), "steering": {**SMALL["steering"], "tasks": (str(path),)}}


@pytest.fixture
def trained(raw_config: dict[str, Any]) -> Path:
    return train(build_config(raw_config), console=QUIET).folders["sae"]


@torch.no_grad()
def firing_shares(folder: Path, n_tokens: int) -> torch.Tensor:
    """Share of the run's held-out tokens on which each latent fires, [d_sae]."""
    subjects = open_subjects({"mine": folder})
    codes = []
    for tokens in subjects.batches(n_tokens):
        x = subjects.passes.activations(tokens)
        codes.append(subjects.saes["mine"].encode(x[subjects.token_filter.keep(tokens, x)].float()))
    return (torch.cat(codes) != 0).double().mean(0)


def test_a_suite_measures_everything_and_leaves_one_file(trained: Path, small: dict[str, Any], tmp_path: Path) -> None:
    stages = set()
    results = evaluate(
        {"mine": trained},
        suite=Suite(**small),
        out=tmp_path / "out",
        on_progress=lambda what, _done, _total: stages.add(what),
    )
    assert read_results(tmp_path / "out" / "results.json").model_dump_json() == results.model_dump_json()
    assert results.reconstruction["mine"].tokens > 0
    assert results.reconstruction["mine"].loss is not None
    concept = results.tasks["temperature"].saes["mine"]
    for method in ("single latent", "pair", "5-sparse", "difference in means", "logistic regression"):
        assert concept.probes[method].auroc.n_units == results.tasks["temperature"].test_groups
    assert {"single latent, permuted", "single latent, untrained SAE"} < set(concept.probes)
    assert results.tasks["temperature"].fallbacks["truncated"] == 0
    density = firing_shares(trained, Suite(**small).reconstruction.tokens)
    for latent in (concept.latent, concept.best_coverage):
        assert latent.density == pytest.approx(density[latent.latent].item())
    steering = results.steering["temperature"]["mine"]
    assert set(steering.interventions) == {"latent", "clamp", "difference_in_means", "random_0"}
    assert [dose.strength for dose in steering.interventions["latent"].doses] == [-3, -1, 0, 1, 3]
    assert stages == {
        "reconstruction",
        "geometry",
        "temperature: texts",
        "temperature: probes",
        "temperature: steering mine",
    }


def test_finished_parts_are_not_computed_again_unless_their_inputs_changed(
    trained: Path, small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probing = {**small, "steering": None, "untrained": False}
    first = evaluate([trained], suite=Suite(**probing), out=tmp_path / "out")
    (tmp_path / "out" / "parts" / "geometry.json").write_text("{torn")
    with monkeypatch.context() as broken:
        for name in ("read_text", "probe_on_task"):
            broken.setattr(evaluation, name, lambda *_, **__: pytest.fail("computed again"))
        again = evaluate([trained], suite=Suite(**probing), out=tmp_path / "out")
        assert again.tasks == first.tasks
        assert again.geometry == first.geometry
        with pytest.raises(pytest.fail.Exception, match="computed again"):
            evaluate([trained], suite=Suite(**{**probing, "texts_per_pole": 31}), out=tmp_path / "out")
        broken.setattr(evaluation, "commit", lambda: "another")
        # numbers of one commit are not given out as those of another
        with pytest.raises(pytest.fail.Exception, match="computed again"):
            evaluate([trained], suite=Suite(**probing), out=tmp_path / "out")
    # controls are centred on plain text and steering is scaled by it, so other text makes everything again
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps({"text": f"Something else, number {i}. " * 20}) + "\n" for i in range(40)))
    monkeypatch.setattr(evaluation, "probe_on_task", lambda *_, **__: pytest.fail("probed again"))
    with pytest.raises(pytest.fail.Exception, match="probed again"):
        evaluate([trained], suite=Suite(**probing), out=tmp_path / "out", text=str(other))


def edited(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_each_edit_in_a_clone_is_told_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for changes in (b"", b"- 1\n+ 2\n", b"- 1\n+ 3\n"):
        monkeypatch.setattr(provenance, "_git", lambda *_, changes=changes: changes)
        found.append(provenance.uncommitted())
    assert found[0] is None
    assert len(set(found)) == 3


@pytest.mark.parametrize("changed", ["reads", "pole", "text", "sae", "model", "autocast", "code"])
def test_a_task_is_probed_again_where_what_it_reads_changed(
    trained: Path,
    tiny_llama: Path,
    texts: Path,
    small: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: str,
) -> None:
    plain, model = tmp_path / "plain.jsonl", shutil.copytree(tiny_llama, tmp_path / "model")
    shutil.copyfile(texts, plain)
    options: dict[str, Any] = {"out": tmp_path / "out", "text": str(plain), "model_name": str(model)}
    suite = Suite(**{**small, "steering": None, "untrained": False})
    evaluate([trained], suite=suite, **options)
    if changed == "code":  # edits in a clone, which all go by one name
        monkeypatch.setattr(evaluation, "uncommitted", lambda: "another edit")
    old, new, path = {
        "code": ("reads", "reads", Path(small["tasks"][0])),
        "autocast": ("autocast_lm: false", "autocast_lm: true", trained / "config.yaml"),
        "model": ("", "", model / "config.json"),
        "reads": ("reads: [last, mean]", "reads: [mean]", Path(small["tasks"][0])),
        "pole": ("cold", "chilly", Path(small["tasks"][0])),
        "text": ('{"text"', '{"text": "One more."}\n{"text"', plain),
        "sae": ('"k": 4', '"k": 5', trained / "cfg.json"),
    }[changed]
    edited(path, old, new)
    if changed == "model":  # trained on and saved in place
        weights = load_file(model / "model.safetensors")
        save_file(
            {name: weight * 1.01 for name, weight in weights.items()}, model / "model.safetensors", {"format": "pt"}
        )
    monkeypatch.setattr(evaluation, "probe_on_task", lambda *_, **__: pytest.fail("probed again"))
    with pytest.raises(pytest.fail.Exception, match="probed again"):
        evaluate([trained], suite=suite, **options)


def test_a_task_is_steered_by_again_where_its_prompts_changed(
    trained: Path, small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = Suite(**{**small, "untrained": False})
    evaluate([trained], suite=suite, out=tmp_path / "out")
    edited(Path(small["tasks"][0]), "The water is", "The lake is")
    monkeypatch.setattr(evaluation, "probe_on_task", lambda *_, **__: pytest.fail("probed again"))
    monkeypatch.setattr(evaluation, "steer_on_task", lambda *_, **__: pytest.fail("steered again"))
    with pytest.raises(pytest.fail.Exception, match="steered again"):
        evaluate([trained], suite=suite, out=tmp_path / "out")


def test_results_are_not_written_over_by_those_of_other_saes_or_of_fewer_tasks(
    trained: Path, small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, out = Suite(**{**small, "steering": None, "untrained": False}), tmp_path / "out"
    evaluate({"mine": trained}, suite=suite, out=out)
    before = (out / "results.json").read_text()
    with pytest.raises(ConfigError, match=r"would write over: the SAE mine \(.*Give another folder by --out"):
        evaluate({"other": trained}, suite=suite, out=out)
    with pytest.raises(ConfigError, match="would write over: the task temperature"):
        evaluate({"mine": trained}, suite=Suite(name="less", reconstruction={"tokens": 256}), out=out)  # type: ignore[arg-type]
    again = shutil.copytree(trained, tmp_path / "again")
    sae = SAE.load_from_disk(again)
    sae.W_dec.data[0] += 1
    sae.save_model(again)
    with pytest.raises(ConfigError, match="would write over: the SAE mine"):
        evaluate({"mine": again}, suite=suite, out=out)
    assert (out / "results.json").read_text() == before
    both = evaluate({"mine": trained, "again": again}, suite=suite, out=out)
    assert list(both.saes) == ["mine", "again"]
    # as of Hub releases, whose weights are in no folder of ours
    with monkeypatch.context() as hub:
        for module in ("evaluate", "records"):
            hub.setattr(sys.modules[f"sae_lens_abstopk.evaluation.{module}"], "weights_sha256", lambda _: None)
        evaluate({"mine": trained}, suite=suite, out=tmp_path / "hub")
        with pytest.raises(ConfigError, match="would write over: the SAE mine"):
            evaluate({"mine": again}, suite=suite, out=tmp_path / "hub")
    (out / "results.json").write_text("{}")
    with pytest.raises(ConfigError, match="is no results file of this version"):
        evaluate({"mine": trained}, suite=suite, out=out)


def test_two_tasks_of_one_name_are_refused(trained: Path, small: dict[str, Any], tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "temperature.yaml"
    other.parent.mkdir()
    shutil.copyfile(small["tasks"][0], other)
    suite = Suite(**{**small, "tasks": (*small["tasks"], str(other)), "steering": None})
    with pytest.raises(ConfigError, match="two tasks named temperature"):
        evaluate([trained], suite=suite, out=tmp_path / "out")


def test_text_is_held_out_where_every_sae_kept_it_back(
    raw_config: dict[str, Any], trained: Path, tmp_path: Path
) -> None:
    other = {**raw_config, "output_path": str(tmp_path / "other"), "held_out_every": 7}
    seven = train(build_config(other), console=QUIET).folders["sae"]
    alone = shutil.copytree(trained, tmp_path / "alone")
    (alone / "config.yaml").unlink()
    assert open_subjects({"a": trained, "b": trained}).held_out
    assert not open_subjects({"a": trained, "b": seven}).held_out
    assert not open_subjects({"a": trained, "b": alone}).held_out
    for key, value in (("column_name", "body"), ("streaming", not raw_config.get("streaming", True))):
        other = shutil.copytree(trained, tmp_path / key)
        content = yaml.safe_load((other / "config.yaml").read_text())
        (other / "config.yaml").write_text(yaml.safe_dump(content | {key: value}))
        assert not open_subjects({"a": trained, "b": other}).held_out, key


@pytest.fixture
def asking(small: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Keys of a suite that steers refusal and measures behaviour."""
    path = tmp_path / "temperature.yaml"
    prompts = "  chat: true\n" + CONCEPT[CONCEPT.index("  prompts") : CONCEPT.index("  scorer")]
    scorer = "  scorer: {kind: prefixes, hot: [I cannot]}\n"
    path.write_text(CONCEPT[: CONCEPT.index("  prompts")] + prompts + scorer)
    behaviour = {"task": str(path), "instructions": 30, "max_new_tokens": 3, "questions": 4}
    return {**small, "steering": {**small["steering"], "strengths": (2.0,), "behaviour": behaviour}}


@pytest.fixture
def chat_model(tiny_llama: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    chat = deepcopy(tokenizer)
    chat.chat_template = "{% for m in messages %}{{ m.content }}: {% endfor %}"
    shutil.copytree(tiny_llama, tmp_path / "chat")
    chat.save_pretrained(tmp_path / "chat")
    return tmp_path / "chat"


def test_behaviour_is_measured_at_the_strengths_that_steering_chose(
    trained: Path, asking: dict[str, Any], chat_model: Path, tmp_path: Path
) -> None:
    told: dict[str, tuple[int, int]] = {}
    results = evaluate(
        {"mine": trained, "again": trained},
        suite=Suite(**asking),
        out=tmp_path / "out",
        model_name=str(chat_model),
        on_progress=lambda what, done, total: told.update({what: (done, total)}),
    )
    assert [what for what, (done, total) in told.items() if done != total] == []
    task = tasks_of_suite(Suite(**asking))["temperature"]
    of_test = [task.examples[row] for row in task.split(0).test]
    templates = tuple(len({example.group for example in of_test if example.pole == pole}) for pole in (0, 1))
    assert max(templates) < 30
    steering = results.steering["temperature"]["mine"]
    assert list(steering.behaviour) == ["unsteered", "latent", "difference_in_means", "random_0"]
    latent = steering.interventions["latent"]
    strengths = [latent.towards_a.strength, latent.towards_b.strength]
    assert [found.strength for found in steering.behaviour["latent"]] == strengths
    for found in (record for records in steering.behaviour.values() for record in records):
        # every test text of a pole is a filling of one of few templates, and those are resampled
        assert (found.refused_harmful.n_units, found.refused_harmless.n_units) == templates
        assert found.multiple_choice is not None
        assert found.multiple_choice.n_units == 4
    assert "What the model does at these strengths" in markdown_report(merge_results([results]))


def test_an_sae_none_of_whose_candidates_fires_is_left_out_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = LatentScales((3, 5), (float("nan"),) * 2, (0, 0), n_tokens=16_384)
    monkeypatch.setattr(steering_part, "latent_scale", lambda *_, **__: nothing)
    cfg = SimpleNamespace(autocast_lm=False)
    subjects: Any = SimpleNamespace(
        saes={"mine": None}, model=None, cfg=cfg, token_filter=TokenFilter(), batches=lambda _: []
    )
    task: Any = SimpleNamespace(steering="part")
    probed: Any = SimpleNamespace(candidates={"mine": [3, 5]})
    options: dict[str, Any] = {"seed": 0, "on_progress": lambda *_: None}
    with pytest.warns(UserWarning, match=r"mine is left out of steering by size: none of its 2 .* in 16,384 tokens"):
        assert steer_on_task(subjects, "size", task, probed, SteeringOptions(tasks=("size",)), **options) == {}


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("/bin/abstopk", "abstopk eval 'a b'"),
        ("/lib/sae_lens_abstopk/__main__.py", "abstopk eval 'a b'"),
        ("/lib/ipykernel_launcher.py", "Python"),
        ("/lib/pytest/__main__.py", "Python"),
    ],
)
def test_the_command_is_recorded_where_there_is_one(
    program: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [program, "eval", "a b"])
    cfg = SimpleNamespace(hook_name="h")
    subjects: Any = SimpleNamespace(model_name="m", cfg=cfg, text_name="t", held_out=True, rules="")
    assert run_facts(subjects)["command"] == command


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
    of_mlp = train(build_config(inside | {"output_path": str(tmp_path / "mlp")}), console=QUIET).folders["sae"]
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
    done = CliRunner().invoke(app, [*asked, "--output", str(tmp_path / "runs")])
    assert done.exit_code == 2, done.output
    assert "task 'nothing' is neither a" in " ".join(done.output.split())
    assert not (tmp_path / "runs").exists()


def test_too_few_texts_and_unknown_groups_are_refused_before_anything_runs(
    trained: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    few = Suite(**{**small, "texts_per_pole": 4})
    with pytest.raises(
        ConfigError, match=r"task 'temperature', with 8 texts in use \(texts_per_pole .*needs at least 5"
    ):
        evaluate([trained], suite=few, out=tmp_path / "out")
    with pytest.raises(ConfigError, match="groups names yours, and the SAEs are called mine"):
        evaluate({"mine": trained}, suite=Suite(**small), out=tmp_path / "out", groups={"mine": "a", "yours": "a"})
    assert not (tmp_path / "out").exists()


def test_untrained_controls_are_made_once_for_all_tasks_and_change_no_number(
    trained: Path, small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = tmp_path / "again.yaml"
    again.write_text(CONCEPT.replace("name: temperature", "name: again"))
    suite = Suite(**{**small, "tasks": (*small["tasks"], str(again)), "steering": None})
    made = []
    plain = evaluation.untrained_saes
    monkeypatch.setattr(evaluation, "untrained_saes", lambda *of: made.append(plain(*of)) or made[-1])
    results = evaluate([trained], suite=suite, out=tmp_path / "out")
    assert len(made) == 1
    tasks = [of.saes["abstopk"].probes for of in results.tasks.values()]
    assert tasks[0] == tasks[1], "the second task has the same texts, and the same control"
    subjects = open_subjects({"abstopk": trained})
    task = tasks_of_suite(suite)["temperature"]
    alone = probe_on_task(subjects, task, untrained=plain(subjects, 0), seed=0, on_progress=lambda *_: None)
    assert alone.record.saes["abstopk"].probes == tasks[0]
    evaluate([trained], suite=suite, out=tmp_path / "out")
    assert len(made) == 1, "nor are they made where every task is read from disk"


@pytest.mark.parametrize("preset", ["llama-3.1-8b", "gpt2", "pythia-70m"])
def test_stock_saes_and_models_from_outside_are_measured_unchanged(
    preset: str, tiny_models: dict[str, Path], texts: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    hook = {"llama-3.1-8b": "model.layers.2", "gpt2": "transformer.h.2", "pythia-70m": "gpt_neox.layers.2"}[preset]
    torch.manual_seed(0)
    sae = TopKSAE(TopKSAEConfig(d_in=32, d_sae=64, k=4))
    torch.nn.init.normal_(sae.W_enc)
    torch.nn.init.normal_(sae.W_dec)
    sae.cfg.metadata.hook_name = hook
    sae.cfg.metadata.model_name = str(tiny_models[preset])
    sae.cfg.metadata.model_class_name = "AutoModelForCausalLM"
    sae.cfg.metadata.context_size = 32
    sae.save_model(tmp_path / "stock")
    results = evaluate([tmp_path / "stock"], suite=Suite(**small), out=tmp_path / "out", text=str(texts))
    (measured,) = results.tasks["temperature"].saes.values()
    coverage = measured.latent.coverage.value
    assert coverage is not None
    assert coverage <= 0.5  # a non-negative latent has one side
    assert not results.held_out


def test_seeds_of_a_comparison_are_matched_with_each_other(
    raw_config: dict[str, Any], small: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(raw_config | {"max_norm_multiple": 3.0}))
    content = {
        "config": str(tmp_path / "base.yaml"),
        "k": [3],
        "seeds": [0, 1],
        "variants": {"abstopk": {"architecture": "abstopk"}, "topk": {"architecture": "sparse_topk"}},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(content))
    suite = Suite(**{**small, "steering": None, "untrained": False})
    results = compare(tmp_path / "c.yaml", output=tmp_path / "runs", suite=suite, console=QUIET)
    assert [(pair.first, pair.second) for pair in results.stability] == [
        ("abstopk seed 0", "abstopk seed 1"),
        ("topk seed 0", "topk seed 1"),
    ]
    assert {record.group for record in results.saes.values()} == {"abstopk", "topk"}
    written = read_results(tmp_path / "runs" / "results" / "results.json")
    assert written.model_dump_json() == results.model_dump_json()


def test_seeds_of_many_latents_are_not_matched_and_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = (topk_sae() for _ in range(2))
    large.cfg.d_sae = 99
    subjects: Any = SimpleNamespace(saes={"a": small, "b": small, "c": large})
    groups = dict.fromkeys("abc", "topk")
    run = evaluation._Evaluation(subjects, Suite(), {}, Path(), groups, 0, lambda *_: None)
    monkeypatch.setattr(evaluation, "LARGEST_MATCHED", 64)
    with pytest.warns(UserWarning, match="stability of [ab] and c is not measured: with 99 latents") as told:
        found = run._stability()
    assert len(told) == 2
    assert [(pair.first, pair.second) for pair in found] == [("a", "b")]
    assert found[0].mean_cosine == pytest.approx(1, abs=1e-6)


def test_every_shipped_suite_is_understood_and_names_tasks_that_there_are() -> None:
    assert {"quick", "full", "refusal"} < set(suite_names())
    for name in suite_names():
        assert set(load_suite(name).tasks) <= set(task_names())


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
