"""The evaluation suite on tiny models: whole documents, and on which text."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from sae_lens import TopKSAE, TopKSAEConfig
from sae_lens.saes.sae import SAEMetadata
from transformers import AutoModelForCausalLM

from sae_lens_abstopk import ConfigError, compare, evaluate
from sae_lens_abstopk.evaluation.reports.report_files import markdown_report
from sae_lens_abstopk.evaluation.results.merging import merge_results
from sae_lens_abstopk.evaluation.results.schema import Results, read_results
from sae_lens_abstopk.evaluation.subjects.sae_specs import HELD_OUT_BY, was_held_out
from sae_lens_abstopk.evaluation.subjects.subjects import open_subjects
from sae_lens_abstopk.evaluation.suite.suite import Suite, load_suite
from sae_lens_abstopk.evaluation.tasks.load_task import task_names
from sae_lens_abstopk.system.yaml_files import data_folder
from tests.training.runs import QUIET

pytestmark = pytest.mark.slow


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
    suite, out, stages = Suite(**small), tmp_path / "out", set()
    results = evaluate({"mine": trained}, suite=suite, out=out, on_progress=lambda what, *_: stages.add(what))
    assert read_results(out / "results.json").model_dump_json() == results.model_dump_json()
    assert results.reconstruction["mine"].tokens > 0
    assert results.reconstruction["mine"].loss is not None
    concept = results.tasks["temperature"].saes["mine"]
    for method in ("single latent", "pair", "5-sparse", "difference in means", "logistic regression"):
        assert concept.probes[method].auroc.n_units == results.tasks["temperature"].test_groups
    assert {"single latent, permuted", "single latent, untrained SAE"} < set(concept.probes)
    assert results.tasks["temperature"].fallbacks["truncated"] == 0
    density = firing_shares(trained, suite.reconstruction.tokens)
    for latent in (concept.latent, concept.best_coverage):
        assert latent.density == pytest.approx(density[latent.latent].item())
    steering = results.steering["temperature"]["mine"]
    assert set(steering.interventions) == {"latent", "clamp", "difference_in_means", "random_0"}
    doses = steering.interventions["latent"].doses
    assert [dose.strength for dose in doses] == [-3, -1, 0, 1, 3]
    baseline = steering.baseline_log_odds, steering.baseline_generated_nll, steering.baseline_neutral_nll
    assert baseline == (doses[2].log_odds, doses[2].generated_nll, doses[2].neutral_nll)
    assert steering.prompts == (2, 2)
    of_task = {f"temperature: {stage}" for stage in ("texts", "probes", "steering mine")}
    assert stages == {"reconstruction", "geometry"} | of_task


def test_text_is_held_out_where_every_sae_kept_it_back(trained: Path, tmp_path: Path) -> None:
    subjects = open_subjects({"a": trained, "b": trained})
    assert subjects.held_out
    alone = shutil.copytree(trained, tmp_path / "alone")
    (alone / "config.yaml").unlink()
    assert not open_subjects({"a": trained, "b": alone}).held_out
    content = yaml.safe_load((trained / "config.yaml").read_text())
    others = {"dataset_path": "some/data", "dataset_name": "raw-v1", "split": "test", "column_name": "body"}
    others |= {"streaming": not content.get("streaming", True), "use_chat_formatting": True, "held_out_every": 7}
    assert others.keys() == set(HELD_OUT_BY)
    for key, value in others.items():
        other = shutil.copytree(trained, tmp_path / key)
        (other / "config.yaml").write_text(yaml.safe_dump(content | {key: value}))
        assert not was_held_out(subjects.text_spec, other, subjects.saes["b"]), key
    (alone / "config.yaml").write_text(yaml.safe_dump(content | {"from_pretrained_path": "another/run"}))
    assert not was_held_out(subjects.text_spec, alone, subjects.saes["b"])


def test_behaviour_is_measured_at_the_strengths_that_steering_chose(
    trained: Path, asking: dict[str, Any], chat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, tuple[int, int]] = {}
    loaded, load = [], AutoModelForCausalLM.from_pretrained
    monkeypatch.setattr(
        AutoModelForCausalLM, "from_pretrained", lambda *args, **keys: loaded.append(args) or load(*args, **keys)
    )
    results = evaluate(
        {"mine": trained, "again": trained},
        suite=Suite(**asking),
        out=tmp_path / "out",
        model_name=str(chat_model),
        on_progress=lambda what, done, total: told.update({what: (done, total)}),
    )
    assert [what for what, (done, total) in told.items() if done != total] == []
    assert len(loaded) == 1  # the questions are put to the model in memory
    steering = results.steering["temperature"]["mine"]
    assert list(steering.behaviour) == ["unsteered", "latent", "difference_in_means", "random_0"]
    latent = steering.interventions["latent"]
    strengths = [latent.towards_a.strength, latent.towards_b.strength]
    assert [found.strength for found in steering.behaviour["latent"]] == strengths
    for found in (record for records in steering.behaviour.values() for record in records):
        # every test text is a filling of one of few templates, and those are resampled
        assert found.refused_harmful.n_units == found.refused_harmless.n_units < 7
        assert found.multiple_choice.n_units == 4
    assert "What the model does at these strengths" in markdown_report(merge_results([results]))


WORDS = "'a b' 'mine=~/runs/x' /data/home/me /home/mean"


@pytest.mark.parametrize("preset", ["llama-3.1-8b", "gpt2", "pythia-70m"])
def test_stock_saes_and_models_from_outside_are_measured_unchanged(
    preset: str, tiny_models: dict[str, Path], texts: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    hook = {"llama-3.1-8b": "model.layers.2", "gpt2": "transformer.h.2", "pythia-70m": "gpt_neox.layers.2"}[preset]
    torch.manual_seed(0)
    metadata = SAEMetadata(
        model_name=str(tiny_models[preset]), model_class_name="AutoModelForCausalLM", hook_name=hook, context_size=32
    )
    sae = TopKSAE(TopKSAEConfig(d_in=32, d_sae=64, k=4, metadata=metadata))
    torch.nn.init.normal_(sae.W_enc)
    torch.nn.init.normal_(sae.W_dec)
    sae.save_model(tmp_path / "stock")
    results = evaluate([tmp_path / "stock"], suite=Suite(**small), out=tmp_path / "out", text=str(texts))
    (measured,) = results.tasks["temperature"].saes.values()
    coverage = measured.latent.coverage.value
    assert coverage <= 0.5  # a non-negative latent has one side
    assert not results.held_out


def test_seeds_of_a_comparison_are_matched_with_each_other(
    raw_config: dict[str, Any], small: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(raw_config | {"max_norm_multiple": 3.0}))
    variants = {"abstopk": {"architecture": "abstopk"}, "topk": {"architecture": "sparse_topk"}}
    content = {"config": str(tmp_path / "base.yaml"), "k": [3], "seeds": [0, 1], "variants": variants}
    suite = Suite(**{**small, "steering": None, "untrained": False})

    def compared(**changes: Any) -> Results:
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(content | changes))
        return compare(tmp_path / "c.yaml", out=tmp_path / "runs", suite=suite, console=QUIET)

    results = compared()
    assert [(pair.first, pair.second) for pair in results.stability] == [
        ("abstopk k=3 seed 0", "abstopk k=3 seed 1"),
        ("topk k=3 seed 0", "topk k=3 seed 1"),
    ]
    assert all(0 < pair.mean_cosine < 0.999 for pair in results.stability)
    assert {record.group for record in results.saes.values()} == {"abstopk k=3", "topk k=3"}
    written = read_results(tmp_path / "runs" / "results" / "results.json")
    assert written.model_dump_json() == results.model_dump_json()
    topk = results.saes["topk k=3 seed 1"].training
    assert (topk["k"], topk["seed"], topk["variant"], topk["lr"]) == (3, 1, "topk", raw_config["lr"])
    both = compared(k=[3, 4])
    for name, record in results.saes.items():  # beside a second k they are the same
        assert both.saes[name].weights_sha256 == record.weights_sha256
    with pytest.raises(ConfigError, match="would write over: the SAE abstopk k=4 seed 0"):
        compared(seeds=[0, 1, 2])
    assert not (tmp_path / "runs" / "k3_seed2").exists(), "it is told before anything is trained"


def test_every_shipped_suite_is_understood_and_names_tasks_that_there_are() -> None:
    suites = {path.stem for path in (data_folder("evals") / "suites").glob("*.yaml")}
    assert {"quick", "full", "refusal"} < suites
    for name in suites:
        assert set(load_suite(name).tasks) <= set(task_names())
