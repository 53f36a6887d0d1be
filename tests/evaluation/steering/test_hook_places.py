"""Hooks are found by the names of transformers and of TransformerLens, unless the model is compiled."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoTokenizer

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.evaluation.steering.steer import steer
from sae_lens_abstopk.model.hook_places import find_place
from tests.evaluation.steerable import (
    GPT2,
    HOOKS,
    Models,
    activations_of,
    logits_of,
    model_of,
    random_tokens,
    signed_sae,
)


@pytest.mark.parametrize(
    ("kind", "hook", "same_as"),
    [
        ("llama-3.1-8b", "blocks.3.hook_resid_post", "model.layers.3"),
        ("llama-3.1-8b", "blocks.4.hook_resid_pre", "model.layers.3"),
        ("pythia-70m", "blocks.3.hook_resid_post", HOOKS["pythia-70m"]),
        ("gemma-3-12b", "blocks.3.hook_resid_post", "model.language_model.layers.3"),
        ("proxy", "blocks.3.hook_resid_post", "model.layers.3"),
        ("bridge", "model.layers.3", "blocks.3.hook_resid_post"),
        ("bridge", "model.layers.3.self_attn", "blocks.3.attn.hook_out"),
        ("hooked", GPT2, "blocks.3.hook_resid_post"),
    ],
)
def test_a_hook_is_found_under_both_names(kind: str, hook: str, same_as: str, models: Models) -> None:
    place = find_place(models(kind), hook)
    assert place.name == same_as
    assert place.module is find_place(models(kind), same_as).module


@pytest.mark.parametrize("preset", ["pythia-70m", "llama-3.1-8b"])
def test_a_part_of_a_layer_gives_a_bridge_what_it_gives_transformers(preset: str, tiny_models: dict[str, Path]) -> None:
    folder, tokens = str(tiny_models[preset]), random_tokens()
    hf, tokenizer = model_of(preset, tiny_models), AutoTokenizer.from_pretrained(folder)
    attention = {"pythia-70m": "attention"}.get(preset, "self_attn")
    seen = {name: activations_of(hf, name, tokens) for name in (f"{HOOKS[preset]}.mlp", f"{HOOKS[preset]}.{attention}")}
    bridge = TransformerBridge.boot_transformers(folder, hf_model=hf, tokenizer=tokenizer, device="cpu")
    for name, expected in seen.items():
        place = find_place(bridge, name).name
        _, cache = bridge.run_with_cache(tokens, names_filter=[place])
        torch.testing.assert_close(cache[place], expected, atol=1e-5, rtol=1e-4)


def test_compiled_models_are_refused(tiny_models: dict[str, Path]) -> None:
    model, sae = model_of("llama-3.1-8b", tiny_models), signed_sae()
    with pytest.raises(ConfigError, match="OptimizedModule is compiled"):
        steer(torch.compile(model), sae, latent=5, strength=1.0, scale=1.0)  # pyright: ignore[reportArgumentType]
    model.model.layers[2].compile()
    find_place(model, "model.layers.3")
    with pytest.raises(ConfigError, match="LlamaDecoderLayer is compiled"):
        find_place(model, "model.layers.2.mlp")
    model.forward = torch.compile(model.forward)
    with pytest.raises(ConfigError, match="LlamaForCausalLM is compiled"):
        find_place(model, "model.layers.3")


class _Adapted(nn.Module):
    """As PEFT's PeftModel and LoraModel, it goes past the hooks of the model that it holds."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.base_model = nn.Module()
        self.base_model.model = model
        self.get_base_model, self.forward, self.generate = lambda: model, model.forward, model.generate


@pytest.mark.parametrize("hook", ["model.layers.3", "blocks.3.hook_resid_post", "model.layers.3.mlp"])
def test_an_adapted_model_is_steered_as_the_one_that_it_wraps(hook: str, models: Models) -> None:
    model, sae, tokens = models("llama-3.1-8b"), signed_sae(hook), random_tokens()
    assert find_place(_Adapted(model), hook).name.startswith("base_model.model.model.layers.3")
    made, logits = [], []
    for each in (model, _Adapted(model)):
        with steer(each, sae, latent=5, strength=20.0, scale=1.0):
            made.append(each.generate(tokens, max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=None))
            logits.append(logits_of(each, tokens))
    assert torch.equal(*made)
    assert torch.equal(*logits)
    assert not torch.equal(made[0], model.generate(tokens, max_new_tokens=6, do_sample=False, pad_token_id=0))
