"""A fine-tune beside its base: an adapter that is switched against the same adapter merged into a second model."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.model import language_model
from sae_lens_abstopk.model.activation_edits import intervene
from sae_lens_abstopk.model.check_pair import check_pair
from sae_lens_abstopk.model.generation import TextModel
from sae_lens_abstopk.model.model_pair import ModelPair
from sae_lens_abstopk.model.model_spec import ModelPairSpec
from sae_lens_abstopk.text.text_spec import TextSpec
from tests.conftest import VOCABULARY

HOOK = "model.layers.3"
PLAIN = TextSpec(dataset_path="text", context_size=16)
CHAT = TextSpec(dataset_path="text", context_size=16, use_chat_formatting=True)


def spec_of(base: Path, hook: str = HOOK, **tuned: Any) -> ModelPairSpec:
    keys = {"device": "cpu"} | {key: str(value) for key, value in tuned.items()}
    return ModelPairSpec(model_name=str(base), hook_name=hook, **keys)


def tokens() -> torch.Tensor:
    return torch.randint(2, VOCABULARY, (3, 12), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("hook", [HOOK, "model.layers.3.mlp.down_proj"])
def test_a_switched_adapter_is_the_base_and_the_merged_model(
    hook: str, tiny_llama: Path, tiny_adapter: Path, tiny_tuned: Path
) -> None:
    one = ModelPair.load(spec_of(tiny_llama, hook, adapter=tiny_adapter), PLAIN)
    two = ModelPair.load(spec_of(tiny_llama, hook, tuned_model=tiny_tuned), PLAIN)
    assert one.base_model is one.tuned_model
    found, expected = one.activations(tokens()), two.activations(tokens())
    torch.testing.assert_close(found.base, expected.base)
    torch.testing.assert_close(found.tuned, expected.tuned)
    assert found.difference.norm() > 0.01 * found.base.norm()
    for name in ("base", "tuned"):
        logits = []
        for pair in (one, two):
            with getattr(pair, name)() as model:
                passes = pair.passes(model)
                torch.testing.assert_close(passes.clean(tokens()).activations, getattr(expected, name))
                logits.append(passes.clean(tokens(), keep_logits=True).logits)
        torch.testing.assert_close(*logits)


def test_contexts_nest_and_edits_and_generation_see_their_model(tiny_llama: Path, tiny_adapter: Path) -> None:
    pair = ModelPair.load(spec_of(tiny_llama, adapter=tiny_adapter), CHAT)
    written: dict[str, Any] = {}
    with pair.base() as model:
        prompts = TextModel(model).encode(["The old lighthouse", "We loved the film"])
        written["base"] = TextModel(model).generate(prompts, samples=1, max_new_tokens=5, temperature=0).new.ids
        with pair.tuned() as tuned:
            written["tuned"] = TextModel(tuned).generate(prompts, samples=1, max_new_tokens=5, temperature=0).new.ids
        with intervene(model, HOOK, lambda x: 3 * x):
            edited = pair.passes(model).activations(tokens())
        again = TextModel(model).generate(prompts, samples=1, max_new_tokens=5, temperature=0).new.ids
        torch.testing.assert_close(again, written["base"])
    assert not torch.equal(written["base"], written["tuned"])
    torch.testing.assert_close(edited, 3 * pair.activations(tokens()).base)
    assert pair.tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False) == "[user] x</s>"


def adapter_of(folder: Path, config: LlamaConfig, name: str = "", **lora: Any) -> Path:
    model: Any = get_peft_model(AutoModelForCausalLM.from_config(config), LoraConfig(r=2, **lora))
    model.peft_config["default"].base_model_name_or_path = name
    model.save_pretrained(str(folder))
    return folder


def test_what_cannot_be_compared_is_refused_before_weights_are_read(
    tiny_llama: Path, tiny_models: dict[str, Path], tiny_tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language_model, "load_transformers_model", None)  # reading weights would fail
    config = LlamaConfig.from_pretrained(tiny_llama)

    def refused(sentence: str, text: TextSpec = PLAIN, **keys: Any) -> None:
        with pytest.raises(ConfigError, match=sentence):
            ModelPair.load(spec_of(tiny_llama, **keys), text)

    copy = shutil.copytree(tiny_llama, tmp_path / "copy")
    refused("nothing differs: .* has the weights of", tuned_model=copy)
    refused("hook_name='model.layers.3' is not in .*gpt2", tuned_model=tiny_models["gpt2"])
    refused("give tuned_model or adapter, not both", tuned_model="", adapter="")
    refused("with adapter_config.json, and a whole model as tuned_model", adapter=tiny_tuned)
    refused("chat template is missing", CHAT, tuned_model=tiny_models["qwen3-4b"])
    wide = tmp_path / "wide"
    LlamaConfig(**config.to_dict() | {"hidden_size": 48}).save_pretrained(wide)
    refused("is 48 wide, and .* takes 32", tuned_model=wide)

    other = shutil.copytree(tiny_tuned, tmp_path / "other")
    vocabulary = json.loads((other / "tokenizer.json").read_text())
    ids = vocabulary["model"]["vocab"]
    ids["Ġthe"], ids["Ġa"] = ids["Ġa"], ids["Ġthe"]
    (other / "tokenizer.json").write_text(json.dumps(vocabulary))
    refused("is token .* of the one and .* of the other", tuned_model=other)
    added = AutoTokenizer.from_pretrained(tiny_tuned)
    added.add_tokens(["[user]"], special_tokens=True)
    added.save_pretrained(shutil.copytree(tiny_tuned, tmp_path / "added"))
    refused(r"with '\[user\]', a token that .* has no embedding of", CHAT, tuned_model=tmp_path / "added")

    narrow = shutil.copytree(tiny_tuned, tmp_path / "narrow")
    LlamaConfig(**config.to_dict() | {"dtype": "bfloat16"}).save_pretrained(narrow)
    spec = spec_of(tiny_llama, tuned_model=narrow)
    with pytest.warns(UserWarning, match=r"as torch.float32 and .* as torch.bfloat16, so rounding is part"):
        check_pair(spec, PLAIN)
    refused("device='cuda:7' is not one of the", tuned_model=tiny_tuned, device="cuda:7")

    attention = {"target_modules": ["q_proj"]}
    refused(
        "does not fit .* give its own base model",
        adapter=adapter_of(tmp_path / "deep", LlamaConfig(**config.to_dict() | {"num_hidden_layers": 27}), **attention),
    )
    refused(
        "was made for .*qwen3-4b, not",
        adapter=adapter_of(tmp_path / "named", config, str(tiny_models["qwen3-4b"]), **attention),
    )
    refused("bias='all'", adapter=adapter_of(tmp_path / "biased", config, bias="all", **attention))
