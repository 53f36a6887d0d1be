"""SAEs that are measured together: the same model, weights, hook and kind of token."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens import SAE, StandardSAE, StandardSAEConfig
from sae_lens.load_model import HookedProxyLM
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

from sae_lens_abstopk import ConfigError, explore, steer
from sae_lens_abstopk.evaluation.inspection.inspect_saes import inspect_saes
from sae_lens_abstopk.evaluation.subjects import subjects as subjects_module
from sae_lens_abstopk.evaluation.subjects.subjects import load_subject_saes, open_subjects
from sae_lens_abstopk.model.model_passes import ModelPasses
from tests.evaluation.steerable import signed_sae
from tests.evaluation.subjects.other_metadata import with_metadata


def test_a_device_is_taken_or_refused_before_the_model_is_loaded(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert load_subject_saes(folders, device="cpu").model_spec.device == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="device='cuda' is not one of the 0 CUDA devices"):
        load_subject_saes(folders, device="cuda")


def test_saes_of_different_models_are_refused(folders: list[Path], tmp_path: Path) -> None:
    metadata = SAE.load_from_disk(folders[0]).cfg.metadata
    StandardSAE(StandardSAEConfig(d_in=16, d_sae=64, metadata=metadata)).save_model(tmp_path / "narrow")
    renamed = with_metadata(folders[0], tmp_path / "renamed", model_name="somebody/another")
    for other, sentence in (
        (renamed, r"of different models \(another, .*\); .* --model NAME"),
        (tmp_path / "narrow", r"activations of different widths \(16, 32\)"),
    ):
        for run in (inspect_saes, explore):
            with pytest.raises(ConfigError, match=sentence):
                run([folders[0], other])
    named = inspect_saes([folders[0], renamed], model_name=metadata.model_name, n_tokens=128)
    assert len(named.results.saes) == 2


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
    sentence = r"trained on the same selection of tokens .*prepend_bos=True, .* give those of one selection"
    for order in ([folders[0], other], [other, folders[0]]):
        for run in (inspect_saes, explore):
            with pytest.raises(ConfigError, match=sentence):
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
    sentence = r"trained on different weights of their model \(.*(step1000|center_writing)"
    for order in ([folders[0], other], [other, folders[0]]):
        with pytest.raises(ConfigError, match=sentence):
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


def test_a_model_that_was_processed_is_told_from_the_one_that_was_trained_on() -> None:
    sizes: dict[str, Any] = {"n_layers": 2, "d_model": 32, "n_ctx": 64, "d_head": 16, "n_heads": 2, "d_vocab": 50}
    model = HookedTransformer(HookedTransformerConfig(**sizes, act_fn="gelu", normalization_type="LN", device="cpu"))
    sae = signed_sae("blocks.1.hook_resid_post")
    with steer(model, sae, latent=3, strength=1.0, scale=1.0):  # a warning would be an error
        pass
    model.process_weights_(fold_ln=True, center_writing_weights=True)
    with pytest.warns(UserWarning, match="weights of this HookedTransformer were processed"):
        steer(model, sae, latent=3, strength=1.0, scale=1.0)
    sae.cfg.metadata.model_from_pretrained_kwargs = {"center_writing_weights": True}
    with steer(model, sae, latent=3, strength=1.0, scale=1.0):
        pass


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
