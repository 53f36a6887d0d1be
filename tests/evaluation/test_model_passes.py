"""Passes that skip the layers below the hook against passes that run them, on every class of model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens.load_model import load_model

from sae_lens_abstopk.evaluation.model_passes import ModelPasses, layers_up_to
from sae_lens_abstopk.training.config_file import build_config
from sae_lens_abstopk.training.language_model import load_language_model
from tests.conftest import VOCABULARY
from tests.evaluation.steerable import HOOKS


def tokens() -> torch.Tensor:
    return torch.randint(2, VOCABULARY, (3, 12), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("preset", HOOKS)
def test_skipping_the_layers_below_changes_nothing(preset: str, tiny_models: dict[str, Path]) -> None:
    hook = HOOKS[preset]
    model = load_model("AutoModelForCausalLM", str(tiny_models[preset]), device="cpu", hook_names=[hook]).eval()
    assert len(layers_up_to(model, hook)) == 4
    fast, plain = ModelPasses(model, hook), ModelPasses(model, hook, skip_below=False)
    clean = fast.clean(tokens())
    torch.testing.assert_close(fast.activations(tokens()), clean.activations)
    torch.testing.assert_close(fast.losses_with(tokens(), clean.activations), clean.losses)
    other = clean.activations * 0.5 + 0.1
    replaced = fast.losses_with(tokens(), other)
    torch.testing.assert_close(replaced, plain.losses_with(tokens(), other))
    assert (replaced - clean.losses).abs().max() > 1e-4
    torch.testing.assert_close(plain.clean(tokens()).losses, clean.losses)  # nothing is left behind


@pytest.mark.parametrize("hook", ["blocks.3.hook_resid_post", "blocks.3.attn.hook_z"])
def test_a_bridge_and_hooks_with_heads_work_too(raw_config: dict[str, Any], hook: str) -> None:
    cfg = build_config(raw_config | {"model_class_name": "TransformerBridge", "hook_name": hook})
    passes = ModelPasses(load_language_model(cfg), hook)
    clean = passes.clean(tokens())
    assert clean.activations.shape == (3, 12, 32)
    torch.testing.assert_close(passes.losses_with(tokens(), clean.activations), clean.losses)


def test_losses_are_the_models_own(tiny_models: dict[str, Path]) -> None:
    from transformers import AutoModelForCausalLM

    folder = tiny_models["gpt2"]
    model = load_model("AutoModelForCausalLM", str(folder), device="cpu", hook_names=["transformer.h.3"]).eval()
    expected = AutoModelForCausalLM.from_pretrained(folder).eval()(tokens(), labels=tokens()).loss
    assert ModelPasses(model, "transformer.h.3").clean(tokens()).losses.mean().item() == pytest.approx(
        expected.item(), rel=1e-5
    )
