"""Inspection of SAEs from runs and from elsewhere, and what it prints."""

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from sae_lens import (
    SAE,
    StandardSAE,
    StandardSAEConfig,
    TemporalSAE,
    TemporalSAEConfig,
    TopKSAE,
    TopKSAEConfig,
    Transcoder,
    TranscoderConfig,
)
from sae_lens.load_model import HookedProxyLM
from sae_lens.saes.sae import SAEMetadata
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

from sae_lens_abstopk import ConfigError, evaluate, explore, steer, train
from sae_lens_abstopk.evaluation.inspection.inspect_saes import inspect_saes
from sae_lens_abstopk.evaluation.inspection.printed import highlighted, print_inspection
from sae_lens_abstopk.evaluation.results.examples import code_text
from sae_lens_abstopk.evaluation.results.sae_facts import weights_sha256
from sae_lens_abstopk.evaluation.results.sae_records import ExampleRecord
from sae_lens_abstopk.evaluation.steering.latent_scale import latent_scale
from sae_lens_abstopk.evaluation.subjects import subjects as subjects_module
from sae_lens_abstopk.evaluation.subjects.subject_config import evaluation_config
from sae_lens_abstopk.evaluation.subjects.subjects import load_subject_saes, open_subjects
from sae_lens_abstopk.evaluation.suite.suite import ReconstructionOptions, Suite
from sae_lens_abstopk.model.generation import TextModel
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.saes.loading import load_sae
from sae_lens_abstopk.text.documents import load_text
from sae_lens_abstopk.training.config.config_file import build_config
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from tests.evaluation.results_document import results_document
from tests.evaluation.steerable import signed_sae
from tests.saes.test_signed_saes import with_random_weights


def test_two_saes_are_measured_on_the_same_held_out_text(folders: list[Path]) -> None:
    steps = []
    found = inspect_saes(folders, n_tokens=256, on_progress=lambda done, total: steps.append((done, total)))
    assert steps[-1][0] == steps[-1][1] == 2 * 5
    assert list(found.results.saes) == ["batch_abstopk", "topk"]
    assert found.results.held_out
    signed, plain = found.on_text.reconstruction.values()
    assert signed.n_tokens == plain.n_tokens
    assert plain.l0 == 4
    assert int(plain.pole_counts[1].sum()) == 0 < int(signed.pole_counts[1].sum())
    assert signed.loss is not None
    assert plain.loss is not None
    assert signed.loss.ce_clean == plain.loss.ce_clean
    out = io.StringIO()
    print_inspection(found, Console(file=out, width=80), latents=2)
    assert "batch_abstopk" in out.getvalue()
    assert out.getvalue().count("fired") == 3  # the footnote and two latents
    lines = out.getvalue().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    row = next(line.split() for line in lines if line.startswith("topk "))
    assert row[:3] == ["topk", "64", "4.0"]
    assert row[3:7] == [f"{value:.3f}" for value in (plain.fvu, plain.nmse, plain.loss.zero, plain.loss.mean)]
    found.results.saes["batch_abstopk"].d_sae = 131_072
    print_inspection(found, Console(file=out, width=80), latents=0)
    assert re.search("^batch_abstopk +131,072 ", out.getvalue(), re.MULTILINE), "a name of that length is on one line"
    document = found.results
    assert document.suite == "inspect"
    for name, result in (("batch_abstopk", signed), ("topk", plain)):
        shown = document.reconstruction[name]
        assert (shown.l0, shown.cosine) == (result.l0, result.cosine)
        assert shown.loss is not None
        assert shown.loss.kl == result.loss.kl_sae > 0
        assert sum(shown.two_sidedness_histogram) == result.poles.live_latents
    assert torch.__version__.startswith(document.environment["torch"])
    assert document.saes["topk"].weights_sha256 == weights_sha256(folders[1])
    both, one = document.examples["batch_abstopk"], document.examples["topk"]
    contexts = found.on_text.contexts["batch_abstopk"]
    first = contexts.suggested(1)[0]
    assert [each.latent for each in both][:2] == [first, first]
    assert both[0].code == contexts.of(first, 0)[0].code
    assert {each.code > 0 for each in both if each.latent == first} == {True, False}
    assert one
    assert all(each.code > 0 for each in one), "a one-sided SAE has its strongest latents there"


def test_text_of_ones_own_takes_the_place_of_the_runs(folders: list[Path], tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text(json.dumps({"text": "she walked to the river. " * 200}) + "\n")
    found = inspect_saes(folders[:1], text=str(tmp_path / "own.jsonl"), n_tokens=128)
    assert not found.results.held_out
    loss = found.results.reconstruction["batch_abstopk"].loss
    assert loss is not None
    assert loss.tokens == 4 * 31


def test_text_of_ones_own_need_not_be_stored_as_the_runs_was(folders: list[Path], tmp_path: Path) -> None:
    path, plain, body = folders[0] / "config.yaml", tmp_path / "plain.txt", tmp_path / "body.jsonl"
    plain.write_text("she walked to the river. " * 200)
    body.write_text(json.dumps({"body": plain.read_text()}) + "\n")
    chats = tmp_path / "chats.jsonl"
    chats.write_text(json.dumps({"messages": [{"role": "user", "content": "Hello"}]}) + "\n")
    run = yaml.safe_load(path.read_text())
    for own, text, key, expected in (
        ({"column_name": "body"}, plain, "column_name", "text"),
        ({"column_name": "body"}, body, "column_name", "body"),
        ({"use_chat_formatting": True}, plain, "use_chat_formatting", False),
        ({"use_chat_formatting": True}, chats, "use_chat_formatting", True),
        ({"is_dataset_tokenized": True, "column_name": "input_ids"}, plain, "is_dataset_tokenized", False),
        ({}, f"{body},column=body", "column_name", "body"),
        ({"use_chat_formatting": True}, f"{body},column=body", "use_chat_formatting", False),
    ):
        path.write_text(yaml.safe_dump(run | own))
        cfg = evaluation_config(folders[0], load_sae(folders[0]), text=str(text))
        assert getattr(cfg, key) == expected, (own, text)
        assert next(iter(load_text(cfg, "all")))


def test_configuration_split_and_column_of_a_text_follow_its_path(folders: list[Path], tmp_path: Path) -> None:
    sae, comma = load_sae(folders[0]), tmp_path / "a,column=b.jsonl"
    comma.write_text(json.dumps({"body": "x"}) + "\n")
    for folder in (folders[0], tmp_path):
        cfg = evaluation_config(folder, sae, text="some/data,name=raw-v1,split=train[:10%],column=body")
        assert (cfg.dataset_path, cfg.dataset_name) == ("some/data", "raw-v1")
        assert (cfg.split, cfg.column_name) == ("train[:10%]", "body")
        assert evaluation_config(folder, sae, text=str(comma)).dataset_path == str(comma)
        for wrong in ("columns=body", "split="):
            with pytest.raises(ConfigError, match=rf"'{wrong}' is not understood; .* name=VALUE, split=VALUE, column="):
                evaluation_config(folder, sae, text=f"some/data,{wrong}")
    with pytest.raises(ConfigError, match=r"'text' is not a column of .*it has body\. .* --text PATH,name="):
        load_subject_saes(folders[0], text=str(comma))


def test_a_text_that_is_not_there_is_told_of_before_the_model_is_loaded(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subjects_module, "load_language_model", lambda _: pytest.fail("loaded"))
    with pytest.raises(ConfigError, match=r"nofile\.txt"):
        inspect_saes(folders, text="nofile.txt")


def test_a_device_is_taken_or_refused_before_the_model_is_loaded(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert load_subject_saes(folders, device="cpu").cfg.device == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="device='cuda' needs CUDA, which torch does not find here"):
        load_subject_saes(folders, device="cuda")


def test_a_run_of_a_config_that_is_refused_today_can_still_be_measured(folders: list[Path], texts: Path) -> None:
    path = folders[0] / "config.yaml"
    written = yaml.safe_load(path.read_text())
    refused = {
        "dtype": "bfloat16",
        "dead_feature_threshold": 1e-6,
        "target_l0": {"sae": 5.0},
        "lr_multiples": {"topk": 2},
    }
    path.write_text(yaml.safe_dump(written | refused))
    assert inspect_saes(folders, n_tokens=128).results.held_out
    # nor are cached activations read, which may have been deleted since
    cached = {"held_out_every": None, "use_cached_activations": True, "cached_activations_path": "deleted"}
    path.write_text(yaml.safe_dump(written | cached))
    assert not inspect_saes(folders, text=str(texts), n_tokens=128).results.held_out


def test_an_sae_from_elsewhere_needs_a_text_and_a_model(tiny_llama: Path, texts: Path, tmp_path: Path) -> None:
    metadata = SAEMetadata(hook_name="model.layers.2", context_size=32, prepend_bos=False)
    with_random_weights(TopKSAE(TopKSAEConfig(d_in=32, d_sae=64, k=4, metadata=metadata))).save_model(tmp_path / "sae")
    with pytest.raises(ConfigError, match="give --text"):
        inspect_saes([tmp_path / "sae"])
    with pytest.raises(ConfigError, match="give --model"):
        inspect_saes([tmp_path / "sae"], text=str(texts))
    found = inspect_saes([tmp_path / "sae"], model_name=str(tiny_llama), text=str(texts), n_tokens=256)
    assert found.results.reconstruction["sae"].l0 == 4


def test_a_folder_that_holds_no_sae_is_refused(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        load_sae(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"holds no SAE: cfg\.json is missing"):
        load_sae(tmp_path)
    for name, damage, sentence in (
        ("truncated", lambda path: path.write_bytes(path.read_bytes()[:500]), "could not be loaded as an SAE"),
        ("missing", lambda path: path.unlink(), "could not be loaded as an SAE"),
    ):
        shutil.copytree(folders[0], tmp_path / name)
        damage(tmp_path / name / "sae_weights.safetensors")
        with pytest.raises(ConfigError, match=sentence):
            load_sae(tmp_path / name)
    shutil.copytree(folders[0], tmp_path / "strange")
    cfg = tmp_path / "strange" / "cfg.json"
    cfg.write_text(cfg.read_text().replace("signed_jumprelu", "strange"))
    with pytest.raises(ConfigError, match="SAELens knows no architecture 'strange'"):
        load_sae(tmp_path / "strange")
    cfg.write_text(cfg.read_text().replace("strange", "batch_abstopk"))
    with pytest.raises(ConfigError, match=r"strange is a checkpoint: it holds an SAE in training, .* 'batch_abstopk'"):
        load_sae(tmp_path / "strange")


def test_an_sae_of_another_tool_is_told_from_an_unknown_architecture(tmp_path: Path) -> None:
    (tmp_path / "cfg.json").write_text('{"expansion_factor": 32, "k": 8, "signed": true}')
    with pytest.raises(
        ConfigError, match=r"its cfg\.json lacks '\w+', so it is no SAE in SAELens's format\. One of eai"
    ):
        load_sae(tmp_path)


def test_a_model_in_memory_is_on_a_device_that_metrics_can_be_computed_on(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    subjects = load_subject_saes(folders)
    monkeypatch.setattr(ModelPasses, "device", torch.device("mps"))
    with pytest.raises(ConfigError, match="the model's device='mps' has no float64"):
        subjects.with_model()


def test_saes_of_different_hooks_are_refused(folders: list[Path], tmp_path: Path) -> None:
    shutil.copytree(folders[0], tmp_path / "other")
    cfg = tmp_path / "other" / "cfg.json"
    cfg.write_text(cfg.read_text().replace("model.layers.2", "model.layers.3"))
    with pytest.raises(ConfigError, match="read different hooks"):
        inspect_saes([folders[0], tmp_path / "other"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model_name": "somebody/another"}, r"of different models \(another, .*\); .* --model NAME"),
        ({"d_in": 16}, r"activations of different widths \(16, 32\)"),
    ],
)
def test_saes_of_different_models_are_refused(
    folders: list[Path], tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    sae = SAE.load_from_disk(folders[0])
    sae.cfg.metadata.model_name = change.get("model_name", sae.cfg.metadata.model_name)
    if "d_in" in change:
        other = StandardSAE(StandardSAEConfig(d_in=16, d_sae=64, metadata=sae.cfg.metadata))
        other.save_model(tmp_path / "other")
    else:
        sae.save_model(tmp_path / "other")
    with pytest.raises(ConfigError, match=sentence):
        inspect_saes([folders[0], tmp_path / "other"])
    with pytest.raises(ConfigError, match=sentence):
        explore([folders[0], tmp_path / "other"])
    if "model_name" in change:
        cfg = json.loads((folders[0] / "cfg.json").read_text())
        named = inspect_saes([folders[0], tmp_path / "other"], model_name=cfg["metadata"]["model_name"], n_tokens=128)
        assert len(named.results.saes) == 2


def with_metadata(source: Path, folder: Path, **metadata: Any) -> Path:
    """A copy of an SAE that says something else of its training."""
    sae = SAE.load_from_disk(source)
    for key, value in metadata.items():
        sae.cfg.metadata[key] = value
    shutil.copytree(source, folder)
    sae.save_model(folder)
    return folder


@pytest.mark.parametrize(
    "change",
    [{"seqpos_slice": [None]}, {"prepend_bos": False}, {"exclude_special_tokens": [7]}],
)
def test_saes_of_different_kinds_of_token_are_refused_before_the_model_is_loaded(
    folders: list[Path], tmp_path: Path, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured on the tokens of the first, the numbers of the others would hang on the order."""
    monkeypatch.setattr(subjects_module, "load_language_model", lambda _: pytest.fail("loaded"))
    other = with_metadata(folders[0], tmp_path / "other", **change)
    for order in ([folders[0], other], [other, folders[0]]):
        for run in (inspect_saes, explore):
            with pytest.raises(
                ConfigError,
                match=r"trained on the same selection of tokens .*prepend_bos=True, .* give those of one selection",
            ):
                run(order, n_tokens=128)


def test_the_limit_on_norms_is_that_of_the_first_that_has_one(folders: list[Path], tmp_path: Path) -> None:
    unlimited = with_metadata(folders[0], tmp_path / "unlimited", max_activation_norm=None)
    limited = with_metadata(folders[0], tmp_path / "limited", max_activation_norm=9e3)
    estimated = with_metadata(folders[0], tmp_path / "estimated", max_activation_norm=8e3)
    assert open_subjects([unlimited, limited, estimated]).token_filter.max_norm == 9e3
    assert open_subjects(unlimited).token_filter.max_norm is None


@pytest.mark.filterwarnings(r"ignore:\s*This SAE has non-empty model_from_pretrained_kwargs")
def test_the_output_of_a_layer_is_one_place_under_its_several_names(folders: list[Path], tmp_path: Path) -> None:
    def named(hook: str, folder: str | None = None, **metadata: Any) -> Path:
        return with_metadata(folders[0], tmp_path / (folder or hook), hook_name=hook, **metadata)

    read_alike = [named("blocks.2.hook_resid_post"), named("blocks.3.hook_resid_pre")]
    found = inspect_saes([folders[0], *read_alike], n_tokens=128).results.reconstruction
    assert len(found) == 3
    assert len({(each.tokens, each.fvu, each.loss and each.loss.ce_sae) for each in found.values()}) == 1
    processing = {"center_writing_weights": True}
    centred = named("blocks.2.hook_resid_post", "centred", model_from_pretrained_kwargs=processing)
    for other in (named("blocks.2.hook_resid_pre"), named("model.layers.2.mlp"), centred):
        with pytest.raises(ConfigError, match="read different hooks"):
            inspect_saes([folders[0], other])


@pytest.mark.filterwarnings(r"ignore:\s*This SAE has non-empty model_from_pretrained_kwargs")
@pytest.mark.parametrize("kwargs", [{"revision": "step1000"}, {"center_writing_weights": True}])
def test_saes_of_different_weights_are_refused_though_their_hooks_have_one_name(
    folders: list[Path], tmp_path: Path, kwargs: dict[str, Any]
) -> None:
    other = with_metadata(folders[0], tmp_path / "other", model_from_pretrained_kwargs=kwargs | {"dtype": "float32"})
    for order in ([folders[0], other], [other, folders[0]]):
        with pytest.raises(
            ConfigError, match=r"trained on different weights of their model \(.*(step1000|center_writing)"
        ):
            inspect_saes(order)
    same = with_metadata(folders[0], tmp_path / "same", model_from_pretrained_kwargs={"dtype": "float32"})
    load_subject_saes([folders[0], same])


def test_a_model_in_memory_is_asked_for_its_own_name_of_the_hook(
    folders: list[Path], tiny_llama: Path, texts: Path
) -> None:
    sae = SAE.load_from_disk(folders[0])
    hf: Any = AutoModelForCausalLM.from_pretrained(tiny_llama)
    advice = r"the model is a LlamaForCausalLM; .* HookedProxyLM\(model, tokenizer, hook_names=\['model\.layers\.2'\]\)"
    for hook in ("model.layers.2", "blocks.2.hook_resid_post"):  # whatever the SAE calls it
        sae.cfg.metadata.hook_name = hook
        with pytest.raises(ConfigError, match=advice):
            explore(sae, model=hf, text=str(texts), n_tokens=128)
    proxy = HookedProxyLM(hf, AutoTokenizer.from_pretrained(tiny_llama), hook_names=["model.layers.2"])
    counts = [explore(sae, model=proxy, text=str(texts), n_tokens=128).saes["batch_abstopk"].collected.pole_counts]
    sae.cfg.metadata.hook_name = "blocks.3.hook_resid_pre"
    counts.append(explore(sae, model=proxy, text=str(texts), n_tokens=128).saes["batch_abstopk"].collected.pole_counts)
    assert torch.equal(*counts)
    sae.cfg.metadata.hook_name, sae.cfg.metadata.model_from_pretrained_kwargs = "model.layers.2", {"fold_ln": True}
    with pytest.warns(
        UserWarning, match=r"weights that HookedTransformer processes \(fold_ln=True\), and this HookedProxyLM"
    ):
        load_subject_saes(sae, model=proxy, text=str(texts)).with_model(proxy)


def test_a_hooked_transformer_is_not_looked_for_in_a_folder(folders: list[Path], tiny_llama: Path, texts: Path) -> None:
    sae = SAE.load_from_disk(folders[0])
    sae.cfg.metadata.hook_name, sae.cfg.metadata.model_class_name = "blocks.2.hook_resid_post", None
    for kwargs in ({"center_writing_weights": True}, {"checkpoint_value": 3000}):
        sae.cfg.metadata.model_from_pretrained_kwargs = kwargs
        with pytest.raises(ConfigError, match="is a local folder, and HookedTransformer knows models by name alone"):
            load_subject_saes(sae, model=str(tiny_llama), text=str(texts)).with_model()


def test_what_an_evaluation_would_write_over_is_told_before_the_model_is_loaded(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subjects_module, "load_language_model", lambda _: pytest.fail("loaded"))
    results_document().write(tmp_path / "results.json")
    with pytest.raises(ConfigError, match="would write over"):
        evaluate(folders[0], suite=Suite(name="text"), out=tmp_path)


def test_one_sae_may_be_given_by_itself_and_its_reports_are_written(folders: list[Path], tmp_path: Path) -> None:
    suite = Suite(name="text", reconstruction=ReconstructionOptions(tokens=128))
    assert list(evaluate(str(folders[0]), suite=suite, out=tmp_path / "out").saes) == ["batch_abstopk"]
    assert {"results.json", "report.md", "report.html"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert len(inspect_saes(str(folders[0]), n_tokens=128).results.saes) == 1


def test_a_release_without_a_label_is_called_by_all_of_its_name(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sae = load_sae(folders[0])
    sae.cfg.metadata.label = None
    monkeypatch.setattr(subjects_module, "load_sae", lambda _: sae)
    text = json.loads((folders[0] / "cfg.json").read_text())["metadata"]["dataset_path"]
    assert list(load_subject_saes("release:layer_2/canonical", text=text).saes) == ["release:layer_2/canonical"]


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (
            lambda m: Transcoder(TranscoderConfig(d_in=32, d_sae=64, d_out=32, apply_b_dec_to_input=False, metadata=m)),
            "is a transcoder: it reads",
        ),
        (
            lambda m: TemporalSAE(
                TemporalSAEConfig(d_in=32, d_sae=64, n_heads=2, bottleneck_factor=2, kval_topk=4, metadata=m)
            ),
            "is a temporal SAE",
        ),
        (
            lambda m: TopKSAE(
                TopKSAEConfig(d_in=32, d_sae=64, normalize_activations="expected_average_only_in", metadata=m)
            ),
            r"the scale is not in its weights.*sae\.fold_activation_norm_scaling_factor\(",
        ),
        (
            lambda m: TopKSAE(
                TopKSAEConfig(d_in=32, d_sae=64, normalize_activations="covariance_whitening", metadata=m)
            ),
            r"sae\.fold_activation_whitening\(",
        ),
    ],
)
def test_what_would_be_measured_as_something_else_is_refused(
    made: Callable[[SAEMetadata], SAE[Any]], sentence: str, tmp_path: Path
) -> None:
    made(SAEMetadata(hook_name="model.layers.2")).save_model(tmp_path / "sae")
    with pytest.raises(ConfigError, match=sentence):
        load_sae(tmp_path / "sae")


def test_an_sae_that_writes_elsewhere_is_refused(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"reads model\.layers\.2 and writes at model\.layers\.3"):
        load_sae(with_metadata(folders[0], tmp_path / "sae", hook_name_out="model.layers.3"))
    load_sae(with_metadata(folders[0], tmp_path / "same", hook_name_out="model.layers.2"))


def test_a_model_is_loaded_and_a_text_read_as_the_metadata_say(texts: Path) -> None:
    def config(**metadata: Any) -> TrainingConfig:
        sae = TopKSAE(TopKSAEConfig(d_in=32, d_sae=64))
        sae.cfg.metadata = SAEMetadata(model_name="gpt2-small", **metadata)
        return evaluation_config(Path("a-release:hook"), sae, text=str(texts))

    block, centred = "blocks.2.hook_resid_pre", {"center_writing_weights": True}
    assert config(hook_name=block).model_class_name == "TransformerBridge"
    of_release = config(hook_name=block, model_from_pretrained_kwargs=centred)
    assert (of_release.model_class_name, of_release.model_from_pretrained_kwargs) == ("HookedTransformer", centred)
    half = config(hook_name="transformer.h.2", model_from_pretrained_kwargs={"dtype": "bfloat16"})
    assert (half.model_class_name, half.model_from_pretrained_kwargs) == ("AutoModelForCausalLM", {"dtype": "bfloat16"})
    recorded = {
        "context_size": 64,
        "prepend_bos": False,
        "sequence_separator_token": "eos",
        "seqpos_slice": (2, -1),
        "hook_head_index": 1,
    }
    default = dict(zip(recorded, (128, True, "bos", (None,), None), strict=True))
    for metadata, expected in ((recorded, recorded), ({}, default)):
        read = config(hook_name=block, **metadata)
        assert {key: getattr(read, key) for key in recorded} == expected


@pytest.mark.parametrize("name", ["run[v2]", "abstopk [k=32]", "a[/b]"])
def test_a_name_is_shown_as_it_is(folders: list[Path], name: str) -> None:
    out = io.StringIO()
    print_inspection(inspect_saes({name: folders[0]}, n_tokens=128), Console(file=out, width=200))
    assert out.getvalue().count(name) == 3


@pytest.mark.parametrize("width", [20, 40, 100])
def test_the_token_of_a_context_is_never_cut_off(tokenizer: Any, width: int) -> None:
    ids = tokenizer("The old lighthouse keeper had not spoken to anyone for three weeks when she arrived.")["input_ids"]
    before, token, after = map(tokenizer.decode, (ids[:-6], [ids[-6]], ids[-5:]))
    example = ExampleRecord(latent=0, code=1.0, before=before, token=token, after=after)
    shown = highlighted(example, width=width)
    shown.truncate(width, overflow="ellipsis")
    assert any(span.end <= width and "on blue" in str(span.style) for span in shown.spans)
    assert token in shown.plain
    # without colours it would look like any other
    assert f"**{token.strip()}**" in highlighted(example, width=width, marked=True).plain


def test_a_config_of_another_tool_or_hook_says_nothing_of_an_sae(
    folders: list[Path], texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sae = load_sae(folders[0])
    alone = tmp_path / "downloads" / "sae"
    sae.save_model(alone)
    (alone.parent / "config.yaml").write_text("theme: dark\n")
    assert evaluation_config(alone, sae, text=str(texts)).hook_name == "model.layers.2"
    for folder in (alone, folders[0]):
        assert evaluation_config(folder, sae, text=str(texts), device="cpu:0").llm_device == "cpu:0"
    config = (folders[0] / "config.yaml").read_text()
    (alone.parent / "config.yaml").write_text(config.replace("model.layers.2", "model.layers.1"))
    assert evaluation_config(alone, sae, text=str(texts)).hook_name == "model.layers.2"
    with pytest.raises(ConfigError, match=r"is of the hook model\.layers\.1, and the SAE reads model\.layers\.2"):
        evaluation_config(alone, sae)
    monkeypatch.chdir(folders[0])
    with pytest.raises(ConfigError, match="give --text"):
        evaluation_config(Path("some-release:layer_2"), sae)


def test_an_sae_of_attention_heads_is_measured_and_explored(raw_config: dict[str, Any]) -> None:
    raw_config |= {"model_class_name": "TransformerBridge", "hook_name": "blocks.2.attn.hook_z"}
    raw_config["sae"]["reshape_activations"] = "hook_z"
    run = train(build_config(raw_config), console=Console(quiet=True))
    (found,) = inspect_saes([run.folders["sae"]], n_tokens=256).results.reconstruction.values()
    assert found.l0 == 4
    assert found.loss is not None
    sae = SAE.load_from_disk(run.folders["sae"])
    sae.turn_on_forward_pass_hook_z_reshaping()
    explored = explore(sae, model=raw_config["model_name"], text=raw_config["dataset_path"], n_tokens=128)
    assert int(next(iter(explored.saes.values())).collected.pole_counts.sum()) > 0
    assert sae.hook_z_reshaping_mode, "the caller's SAE stays as it was"
    with pytest.raises(ConfigError, match=r"in memory is an SAE in training; give the folder of its run"):
        explore(run.saes["sae"])
    sae.cfg.metadata.hook_name_out = "blocks.2.hook_mlp_out"
    with pytest.raises(ConfigError, match="the abstopk SAE in memory is a transcoder"):
        explore(sae)


def test_codes_of_any_size_are_told_apart() -> None:
    codes = (0.0234, -0.0181, 9.8125, -11.0, 2480.4)
    assert [code_text(code) for code in codes] == ["+0.0234", "-0.0181", "+9.81", "-11.0", "+2480"]


def test_a_model_that_was_processed_is_told_from_the_one_that_was_trained_on() -> None:
    sizes: dict[str, Any] = {"n_layers": 2, "d_model": 32, "n_ctx": 64, "d_head": 16, "n_heads": 2, "d_vocab": 50}
    model = HookedTransformer(HookedTransformerConfig(**sizes, act_fn="gelu", normalization_type="LN", device="cpu"))
    sae = signed_sae("blocks.1.hook_resid_post")
    with steer(model, sae, latent=3, strength=1.0):  # a warning would be an error
        pass
    model.process_weights_(fold_ln=True, center_writing_weights=True)
    with pytest.warns(UserWarning, match="weights of this HookedTransformer were processed"):
        steer(model, sae, latent=3, strength=1.0)
    sae.cfg.metadata.model_from_pretrained_kwargs = {"center_writing_weights": True}
    with steer(model, sae, latent=3, strength=1.0):
        pass


def test_a_model_in_training_is_measured_without_dropout(tiny_llama: Path) -> None:
    hf: Any = AutoModelForCausalLM.from_pretrained(
        tiny_llama, attention_dropout=0.5, attn_implementation="eager"
    ).train()
    proxy = HookedProxyLM(hf, AutoTokenizer.from_pretrained(tiny_llama), hook_names=["model.layers.2"])
    hf.model.norm.eval()  # what is not in training stays so
    passes, tokens = ModelPasses(proxy, "model.layers.2"), torch.arange(2, 34)[None]
    first, second = passes.clean(tokens), passes.clean(tokens)
    assert torch.equal(first.losses, second.losses)
    assert torch.equal(passes.activations(tokens), first.activations)
    text = TextModel(hf, AutoTokenizer.from_pretrained(tiny_llama))
    prompts = text.encode(["The old lighthouse"])
    assert torch.equal(text.next_logits(prompts), text.next_logits(prompts))
    sae = signed_sae("model.layers.2")
    scales = [latent_scale(hf, sae, [tokens], latents=[3]) for _ in range(2)]
    assert scales[0] == scales[1]
    assert hf.training
    assert hf.model.layers[0].training
    assert not hf.model.norm.training


def test_an_sae_in_memory_stays_where_it_is(
    folders: list[Path], tiny_llama: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sae = SAE.load_from_disk(folders[0])
    loaded = load_subject_saes(sae, model=tiny_llama, text=str(texts))
    assert loaded.with_model().saes["batch_abstopk"] is sae
    monkeypatch.setattr(ModelPasses, "device", torch.device("meta"))
    monkeypatch.setattr("sae_lens_abstopk.evaluation.subjects.subjects.resolve_device", lambda *_: None)
    assert loaded.with_model().saes["batch_abstopk"].W_dec.device.type == "meta"
    assert sae.W_dec.device.type == "cpu"
