"""SAEs of runs, folders and releases, with the model and the text that they are measured on."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from sae_lens import (
    SAE,
    TemporalSAE,
    TemporalSAEConfig,
    TopKSAE,
    TopKSAEConfig,
    Transcoder,
    TranscoderConfig,
)
from sae_lens.saes.sae import SAEMetadata

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.evaluation.inspection.inspect_saes import inspect_saes
from sae_lens_abstopk.evaluation.subjects.sae_specs import SAESpecs, specs_of_sae
from sae_lens_abstopk.evaluation.subjects.subjects import load_subject_saes
from sae_lens_abstopk.saes.loading import load_sae
from sae_lens_abstopk.text.documents import load_text
from tests.evaluation.subjects.other_metadata import with_metadata
from tests.saes.test_signed_saes import with_random_weights


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
        spec = specs_of_sae(folders[0], load_sae(folders[0]), text=str(text)).text
        assert getattr(spec, key) == expected, (own, text)
        assert next(iter(load_text(spec, "all")))


def test_configuration_split_and_column_of_a_text_follow_its_path(folders: list[Path], tmp_path: Path) -> None:
    sae, comma = load_sae(folders[0]), tmp_path / "a,column=b.jsonl"
    comma.write_text(json.dumps({"body": "x"}) + "\n")
    for folder in (folders[0], tmp_path):
        spec = specs_of_sae(folder, sae, text="some/data,name=raw-v1,split=train[:10%],column=body").text
        assert (spec.dataset_path, spec.dataset_name) == ("some/data", "raw-v1")
        assert (spec.split, spec.column_name) == ("train[:10%]", "body")
        assert specs_of_sae(folder, sae, text=str(comma)).text.dataset_path == str(comma)
        for wrong in ("columns=body", "split="):
            with pytest.raises(ConfigError, match=rf"'{wrong}' is not understood; .* name=VALUE, split=VALUE, column="):
                specs_of_sae(folder, sae, text=f"some/data,{wrong}")
    with pytest.raises(ConfigError, match=r"no column text among body.* --text PATH,name="):
        load_subject_saes(folders[0], text=str(comma))


def test_an_sae_from_elsewhere_needs_a_text_and_a_model(tiny_llama: Path, texts: Path, tmp_path: Path) -> None:
    metadata = SAEMetadata(hook_name="model.layers.2", context_size=32, prepend_bos=False)
    with_random_weights(TopKSAE(TopKSAEConfig(d_in=32, d_sae=64, k=4, metadata=metadata))).save_model(tmp_path / "sae")
    with pytest.raises(ConfigError, match="give --text"):
        inspect_saes([tmp_path / "sae"])
    with pytest.raises(ConfigError, match="give --model"):
        inspect_saes([tmp_path / "sae"], text=str(texts))
    found = inspect_saes([tmp_path / "sae"], model_name=str(tiny_llama), text=str(texts), n_tokens=256)
    assert found.results.reconstruction["sae"].l0 == 4


SIZES: dict[str, Any] = {"d_in": 32, "d_sae": 64, "metadata": SAEMetadata(hook_name="model.layers.2")}
NOT_MEASURABLE: list[tuple[SAE[Any], str]] = [
    (Transcoder(TranscoderConfig(**SIZES, d_out=32, apply_b_dec_to_input=False)), "is a transcoder: it reads"),
    (TemporalSAE(TemporalSAEConfig(**SIZES, n_heads=2, bottleneck_factor=2, kval_topk=4)), "is a temporal SAE"),
    (
        TopKSAE(TopKSAEConfig(**SIZES, normalize_activations="expected_average_only_in")),
        r"the scale is not in its weights.*sae\.fold_activation_norm_scaling_factor\(",
    ),
    (
        TopKSAE(TopKSAEConfig(**SIZES, normalize_activations="covariance_whitening")),
        r"sae\.fold_activation_whitening\(",
    ),
]


@pytest.mark.parametrize(("sae", "sentence"), NOT_MEASURABLE)
def test_what_would_be_measured_as_something_else_is_refused(sae: SAE[Any], sentence: str, tmp_path: Path) -> None:
    sae.save_model(tmp_path / "sae")
    with pytest.raises(ConfigError, match=sentence):
        load_sae(tmp_path / "sae")


def test_an_sae_that_writes_elsewhere_is_refused(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"reads model\.layers\.2 and writes at model\.layers\.3"):
        load_sae(with_metadata(folders[0], tmp_path / "sae", hook_name_out="model.layers.3"))
    load_sae(with_metadata(folders[0], tmp_path / "same", hook_name_out="model.layers.2"))


def test_a_model_is_loaded_and_a_text_read_as_the_metadata_say(texts: Path) -> None:
    def specs(**metadata: Any) -> SAESpecs:
        sae = TopKSAE(TopKSAEConfig(d_in=32, d_sae=64))
        sae.cfg.metadata = SAEMetadata(model_name="gpt2-small", **metadata)
        return specs_of_sae(Path("a-release:hook"), sae, text=str(texts))

    block, centred = "blocks.2.hook_resid_pre", {"center_writing_weights": True}
    assert specs(hook_name=block).model.model_class_name == "TransformerBridge"
    of_release = specs(hook_name=block, model_from_pretrained_kwargs=centred).model
    assert (of_release.model_class_name, of_release.model_from_pretrained_kwargs) == ("HookedTransformer", centred)
    half = specs(hook_name="transformer.h.2", model_from_pretrained_kwargs={"dtype": "bfloat16"}).model
    assert (half.model_class_name, half.model_from_pretrained_kwargs) == ("AutoModelForCausalLM", {"dtype": "bfloat16"})
    recorded: dict[str, Any] = {"context_size": 64, "prepend_bos": False, "sequence_separator_token": "eos"}
    recorded |= {"seqpos_slice": (2, -1), "hook_head_index": 1}
    default = dict(zip(recorded, (128, True, "bos", (None,), None), strict=True))
    for metadata, expected in ((recorded, recorded), ({}, default)):
        model, text, _ = specs(hook_name=block, **metadata)
        found = {key: getattr(text, key, None) for key in recorded} | {"hook_head_index": model.hook_head_index}
        assert found == expected


def test_a_config_of_another_tool_or_hook_says_nothing_of_an_sae(
    folders: list[Path], texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sae = load_sae(folders[0])
    alone = tmp_path / "downloads" / "sae"
    sae.save_model(alone)
    (alone.parent / "config.yaml").write_text("theme: dark\n")
    assert specs_of_sae(alone, sae, text=str(texts)).model.hook_name == "model.layers.2"
    for folder in (alone, folders[0]):
        assert specs_of_sae(folder, sae, text=str(texts), device="cpu:0").model.device == "cpu:0"
    config = (folders[0] / "config.yaml").read_text()
    (alone.parent / "config.yaml").write_text(config.replace("model.layers.2", "model.layers.1"))
    assert specs_of_sae(alone, sae, text=str(texts)).model.hook_name == "model.layers.2"
    with pytest.raises(ConfigError, match=r"is of the hook model\.layers\.1, and the SAE reads model\.layers\.2"):
        specs_of_sae(alone, sae)
    (alone / "config.yaml").write_text(config)
    (alone.parent / "config.yaml").write_text("- not a mapping\n")
    assert specs_of_sae(alone, sae).model.hook_name == "model.layers.2"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert specs_of_sae(alone, sae, model_name="~/m").model.model_name == str(tmp_path / "m")
    monkeypatch.chdir(folders[0])
    with pytest.raises(ConfigError, match="give --text"):
        specs_of_sae(Path("some-release:layer_2"), sae)


def test_a_folder_without_an_sae_for_use_says_what_it_is(folders: list[Path], tmp_path: Path) -> None:
    shutil.copytree(folders[0], tmp_path / "sae")
    cfg = tmp_path / "sae" / "cfg.json"
    for content, sentence in (
        ('{"expansion_factor": 32, "k": 8, "signed": true}', r"its cfg\.json lacks '\w+'\. Convert one of eai"),
        (cfg.read_text().replace("signed_jumprelu", "strange"), "SAELens knows no architecture 'strange'"),
        (cfg.read_text().replace("signed_jumprelu", "batch_abstopk"), "is a checkpoint: it holds an SAE in training"),
    ):
        cfg.write_text(content)
        with pytest.raises(ConfigError, match=sentence):
            load_sae(tmp_path / "sae")
