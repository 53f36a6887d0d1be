import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from sae_lens.load_model import HookedProxyLM
from transformers import AutoModelForCausalLM, OPTConfig
from transformers.models.gemma2.modeling_gemma2 import Gemma2PreTrainedModel

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.model import language_model
from sae_lens_abstopk.model.generation import TextModel
from sae_lens_abstopk.model.hook_places import transformers_model
from sae_lens_abstopk.model.inference import autocast_pays, bfloat16_autocast
from sae_lens_abstopk.model.text_store import TextStore
from sae_lens_abstopk.training.config.config_file import build_config
from sae_lens_abstopk.training.runner import TrainingRun
from tests.conftest import VOCABULARY
from tests.specs import check_activations, check_hook, documents_of, model_of, passes_of
from tests.training.config.test_config_file import changed

BRIDGE = {"model_class_name": "TransformerBridge"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hook_name": "model.layers.6"}, "residual stream is at model.layers.0 to model.layers.5; nearest: .*5"),
        ({"hook_name": "blocks.3.hook_resid_post"}, "set model_class_name=HookedTransformer or TransformerBridge"),
        ({"sae.d_in": 16}, "takes 16; set sae.d_in=32, or leave it out"),
        (BRIDGE | {"hook_name": "blocks.26.hook_resid_post"}, "at blocks.0.hook_resid_post to blocks.5.hook_resid"),
        (BRIDGE | {"hook_name": "embed.hook_out"}, "'embed.hook_out' is not in .*, read as TransformerBridge"),
    ],
)
def test_a_hook_or_width_that_does_not_fit_is_refused_before_the_weights_are_read(
    raw_config: dict[str, Any], changes: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language_model, "load_transformers_model", None)  # reading weights would fail
    for key, value in changes.items():
        changed(raw_config, key, value)
    with pytest.raises(ConfigError, match=sentence):
        check_hook(build_config(raw_config))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (BRIDGE | {"hook_name": "blocks.2.hook_resid_pots"}, "nearest: .*blocks.2.hook_resid_post"),
        (
            BRIDGE | {"hook_name": "blocks.2.hook_resid_mid"},
            "reads it at the input of a norm.* take hook_resid_pre or hook_resid_post, or a HookedTransformer",
        ),
        ({"hook_name": "model.layers.2.mlp.up_proj"}, "is 48 wide, .* takes 32; set sae.d_in=48"),
    ],
)
def test_a_hook_that_the_loaded_model_lacks_or_has_another_width_is_refused(
    raw_config: dict[str, Any], changes: dict[str, Any], sentence: str
) -> None:
    cfg = build_config(raw_config | changes)
    with pytest.raises(ConfigError, match=sentence):
        TrainingRun(cfg, console=Console(quiet=True))
    assert not Path(raw_config["output_path"]).exists()


@pytest.mark.parametrize(("head", "width"), [(None, 32), (1, 16)])
def test_the_width_of_one_head_or_of_all_is_what_counts(
    raw_config: dict[str, Any], head: int | None, width: int
) -> None:
    hook = BRIDGE | {"hook_name": "blocks.2.attn.hook_q", "hook_head_index": head}
    cfg = build_config(raw_config | hook | {"sae": raw_config["sae"] | {"d_in": width}})
    check_activations(model_of(cfg), cfg)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("model_class", ["AutoModelForCausalLM", "TransformerBridge"])
def test_a_checkpoint_of_16_bits_runs_in_autocast_on_a_cpu(
    raw_config: dict[str, Any], tiny_models: dict[str, Path], dtype: torch.dtype, model_class: str
) -> None:
    bridge = model_class == "TransformerBridge"
    changes = {
        "model_name": str(tiny_models["pythia-70m"]),
        "model_class_name": model_class,
        "hook_name": "blocks.2.hook_resid_post" if bridge else "gpt_neox.layers.2",
        "model_from_pretrained_kwargs": {"dtype": dtype},
        "autocast_lm": True,
    }
    cfg = build_config(raw_config | changes)
    tokens = torch.arange(20).view(2, 10)
    assert passes_of(model_of(cfg), cfg).clean(tokens).losses.isfinite().all()


@pytest.mark.parametrize("fast", [True, False])
def test_a_checkpoint_of_16_bits_is_widened_on_a_cpu_that_is_slow_in_them(
    raw_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    monkeypatch.setattr(language_model, "autocast_pays", lambda _: fast)
    folder = shutil.copytree(raw_config["model_name"], tmp_path / "model")
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    found = []
    for options in ({}, {"dtype": torch.bfloat16}):
        cfg = build_config(raw_config | {"model_name": str(folder), "model_from_pretrained_kwargs": options})
        found.append(next(model_of(cfg).parameters()).dtype)
    assert found == [torch.bfloat16 if fast else torch.float32, torch.bfloat16]


@pytest.mark.parametrize("model_class", ["AutoModelForCausalLM", "TransformerBridge"])
@pytest.mark.parametrize("asked", [None, "sdpa"])
def test_attention_that_is_capped_is_capped(
    raw_config: dict[str, Any],
    tiny_models: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    model_class: str,
    asked: str | None,
) -> None:
    monkeypatch.setattr(Gemma2PreTrainedModel, "_supports_sdpa", True)  # as before transformers 5.21
    changes: dict[str, Any] = {"model_name": str(tiny_models["gemma-2-2b"]), "model_class_name": model_class}
    if asked:
        changes["model_from_pretrained_kwargs"] = {"attn_implementation": asked}
    if model_class == "TransformerBridge":
        changes["hook_name"] = "blocks.2.hook_resid_post"
    model = transformers_model(model_of(build_config(raw_config | changes)))
    assert isinstance(model, Gemma2PreTrainedModel)
    assert model.config._attn_implementation == (asked or "eager")


def test_a_context_longer_than_a_table_of_positions_is_refused(
    raw_config: dict[str, Any], tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    OPTConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=64
    ).save_pretrained(tmp_path)
    for model, hook, longest in (
        (tiny_models["gpt2"], "transformer.h.1", 1024),
        (tiny_models["gpt2"], "blocks.1.hook_resid_post", 1024),
        (tmp_path, "model.decoder.layers.1", 64),
    ):
        of_model = raw_config | {"model_name": str(model), "hook_name": hook}
        of_model |= BRIDGE if hook.startswith("blocks") else {}
        check_hook(build_config(of_model | {"context_size": longest}))
        with pytest.raises(ConfigError, match=f"must be at most {longest}, the positions"):
            check_hook(build_config(of_model | {"context_size": longest + 1}))


@pytest.mark.parametrize("preset", ["gpt2", "llama-3.1-8b", "gemma-2-2b"])
def test_a_folder_without_tokenizer_files_or_a_chat_template_is_refused_before_the_weights_are_read(
    raw_config: dict[str, Any],
    tiny_models: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    preset: str,
) -> None:
    monkeypatch.setattr(language_model, "load_transformers_model", None)  # reading weights would fail
    shutil.copy(tiny_models[preset] / "config.json", tmp_path)
    with pytest.raises(ConfigError, match=r"no tokenizer files that can be read.*from_pretrained\(BASE"):
        model_of(build_config(raw_config | {"model_name": str(tmp_path)}))
    with pytest.raises(ConfigError, match="tokenizer's chat template is missing"):
        model_of(build_config(raw_config | {"use_chat_formatting": True}))


def test_a_hook_without_a_row_for_each_token_is_refused(raw_config: dict[str, Any], tmp_path: Path) -> None:
    OPTConfig(
        vocab_size=VOCABULARY, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=2
    ).save_pretrained(tmp_path)
    changes = {"model_name": str(tmp_path), "hook_name": "model.decoder.layers.1.fc2"}
    cfg = build_config(raw_config | changes)
    model = HookedProxyLM(AutoModelForCausalLM.from_config(OPTConfig.from_pretrained(tmp_path)), None, [cfg.hook_name])
    with pytest.raises(ConfigError, match=r"gives \[3, 32\] for one text of three tokens"):
        check_activations(model, cfg)


def test_a_tower_for_images_is_neither_advised_nor_read(
    raw_config: dict[str, Any], tiny_models: dict[str, Path]
) -> None:
    raw_config |= {"model_name": str(tiny_models["gemma-3-12b"])}
    for hook in ("blocks.3.hook_resid_post", "model.vision_tower.encoder.layers.0"):
        with pytest.raises(ConfigError, match="is not in") as refused:
            check_hook(build_config(raw_config | {"hook_name": hook}))
        assert "vision" not in str(refused.value).replace(hook, "")
        assert "model.language_model.layers.0 to model.language_model.layers.5" in str(refused.value)


CPU = torch.device("cpu")


@pytest.fixture(params=[True, False], ids=["fast", "slow"])
def fast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the processor is taken to be fast in bfloat16."""
    monkeypatch.setattr("sae_lens_abstopk.model.inference.bfloat16_is_fast", lambda _: request.param)
    return request.param


def test_a_cpu_without_the_instructions_keeps_to_float32(fast: bool) -> None:
    a = torch.eye(3)
    with bfloat16_autocast(CPU, enabled=True):
        assert (a @ a).dtype == (torch.bfloat16 if fast else torch.float32)
    with bfloat16_autocast(CPU, enabled=False):
        assert (a @ a).dtype == torch.float32
    assert autocast_pays(CPU) is fast
    assert autocast_pays(torch.device("cuda"))


def test_so_do_training_evaluation_and_generation(raw_config: dict[str, Any], fast: bool) -> None:
    seen = []

    def look(module: Any, args: Any, output: torch.Tensor) -> None:  # noqa: ARG001  # torch's
        seen.append(output.dtype)

    cfg = build_config(raw_config | {"autocast_lm": True})
    model: Any = model_of(cfg)
    next(module for module in model.modules() if isinstance(module, torch.nn.Linear)).register_forward_hook(look)
    store = TextStore.of_specs(model, cfg.model_spec, cfg.text_spec, documents_of(cfg, "train"), d_in=32)
    store.get_activations(torch.arange(8).view(1, 8))
    passes_of(model, cfg).clean(torch.arange(8).view(1, 8))
    text_model = TextModel(model, autocast=True)
    text_model.next_logits(text_model.encode(["a b"]))
    assert len(seen) >= 3
    assert set(seen) == {torch.bfloat16 if fast else torch.float32}
