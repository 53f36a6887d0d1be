"""Passes that skip the layers below the hook against passes that run them, on every class of model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from sae_lens import SAE, StandardSAEConfig
from sae_lens.evals import get_recons_loss
from sae_lens.load_model import load_model
from sae_lens.saes.sae import SAEMetadata
from sae_lens.training.activation_scaler import ActivationScaler
from transformers import PreTrainedTokenizerFast

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.model.language_model import load_bridge
from sae_lens_abstopk.model.model_passes import ModelPasses, layers_up_to
from sae_lens_abstopk.saes.codec import ScaledCodec
from sae_lens_abstopk.training.config.config_file import build_config
from tests.conftest import VOCABULARY
from tests.evaluation.steerable import HOOKS, tiny_gemma4
from tests.specs import model_of

HOOK_Z = "blocks.3.attn.hook_z"


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
    torch.testing.assert_close(fast.replaced(tokens(), clean.activations).losses, clean.losses)
    other = clean.activations * 0.5 + 0.1
    replaced = fast.replaced(tokens(), other).losses
    torch.testing.assert_close(replaced, plain.replaced(tokens(), other).losses)
    assert (replaced - clean.losses).abs().max() > 1e-4
    torch.testing.assert_close(plain.clean(tokens()).losses, clean.losses)  # nothing is left behind


def test_layers_that_leave_keys_to_others_are_run(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    folder, hook = tiny_gemma4(tmp_path, tokenizer), "model.layers.3"  # the first that reads the keys of others
    model = load_model("AutoModelForCausalLM", str(folder), device="cpu", hook_names=[hook]).eval()
    passes = ModelPasses(model, hook)
    clean = passes.clean(tokens())
    torch.testing.assert_close(passes.replaced(tokens(), clean.activations).losses, clean.losses)
    assert (passes.replaced(tokens(), clean.activations * 0.5 + 0.1).losses - clean.losses).abs().max() > 1e-4


def test_a_model_that_accelerate_has_spread_keeps_its_own_forwards(tiny_llama: Path) -> None:
    hook = "model.layers.3"
    model = load_model("AutoModelForCausalLM", str(tiny_llama), device="cpu", hook_names=[hook]).eval()
    layers = layers_up_to(model, hook)
    for layer in layers:
        add_hook_to_module(layer, AlignDevicesHook("cpu"))
    own = [vars(layer)["forward"] for layer in layers]
    model.model.lm_head.register_parameter("elsewhere", torch.nn.Parameter(torch.empty(1, device="meta")))
    passes = ModelPasses(model, hook)
    assert passes.device.type == "cpu"
    clean = passes.clean(tokens())
    torch.testing.assert_close(passes.replaced(tokens(), clean.activations).losses, clean.losses)
    assert [vars(layer)["forward"] for layer in layers] == own


def test_an_sae_in_training_takes_activations_of_another_device() -> None:
    sae = SAE.from_dict(StandardSAEConfig(d_in=16, d_sae=24).to_dict()).to("meta")
    codec = ScaledCodec(sae, ActivationScaler(2.0))
    assert codec.decode(codec.encode(torch.ones(3, 16))).device.type == "meta"


@pytest.mark.parametrize("hook", ["blocks.3.hook_resid_post", "blocks.3.attn.hook_z"])
def test_a_bridge_and_hooks_with_heads_work_too(raw_config: dict[str, Any], hook: str) -> None:
    cfg = build_config(raw_config | {"model_class_name": "TransformerBridge", "hook_name": hook})
    passes = ModelPasses(model_of(cfg), hook)
    clean = passes.clean(tokens())
    assert clean.activations.shape == (3, 12, 32)
    torch.testing.assert_close(passes.replaced(tokens(), clean.activations).losses, clean.losses)


@pytest.fixture
def bridge(tiny_llama: Path) -> Any:
    return load_bridge(str(tiny_llama), "cpu", {}).eval()


@pytest.mark.parametrize("head", [0, 1])
def test_one_head_is_read_and_replaced_and_the_others_stay(bridge: Any, head: int) -> None:
    def z_of_all_heads(run: Callable[[], Any]) -> torch.Tensor:
        """What the output projection of the attention is given, [batch, context, heads, d_head]."""
        seen: list[torch.Tensor] = []
        projection = bridge.blocks[3].attn.o.original_component  # inside of the hook
        hook = projection.register_forward_pre_hook(lambda _, args: seen.append(args[0].unflatten(-1, (2, 16))))
        try:
            run()
        finally:
            hook.remove()
        return seen[0]

    passes = ModelPasses(bridge, HOOK_Z, d_in=16, head_index=head)
    clean = passes.clean(tokens(), keep_logits=True)
    z = z_of_all_heads(lambda: bridge(tokens()))
    torch.testing.assert_close(clean.activations, z[:, :, head])
    torch.testing.assert_close(passes.activations(tokens()), clean.activations)
    torch.testing.assert_close(passes.replaced(tokens(), clean.activations).losses, clean.losses)

    other = clean.activations * 0.5 + 0.1
    replaced = z_of_all_heads(lambda: passes.replaced(tokens(), other))
    torch.testing.assert_close(replaced[:, :, head], other)
    torch.testing.assert_close(replaced[:, :, 1 - head], z[:, :, 1 - head])


def test_the_loss_with_one_head_replaced_is_saelens_own(bridge: Any) -> None:
    cfg = StandardSAEConfig(d_in=16, d_sae=24, metadata=SAEMetadata(hook_name=HOOK_Z, hook_head_index=1))
    sae = SAE.from_dict(cfg.to_dict())
    torch.nn.init.normal_(sae.W_dec)
    torch.nn.init.normal_(sae.W_enc)
    expected = get_recons_loss(sae, bridge, ActivationScaler(), tokens(), compute_kl=False, compute_ce_loss=True)
    passes = ModelPasses(bridge, HOOK_Z, head_index=1)
    clean = passes.clean(tokens())
    found = passes.replaced(tokens(), sae(clean.activations)).losses
    torch.testing.assert_close(found, expected["ce_loss_with_sae"].flatten().double())
    assert (found - clean.losses).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("hook", "head", "sentence"),
    [
        (HOOK_Z, 2, "hook_head_index=2: blocks.3.attn.hook_z of this model has heads 0 to 1"),
        ("blocks.3.hook_resid_post", 0, "blocks.3.hook_resid_post of this model has no heads; set it to null"),
    ],
)
def test_a_head_that_is_not_there_is_refused(bridge: Any, hook: str, head: int, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        ModelPasses(bridge, hook, head_index=head).clean(tokens())
