"""The logit lens, against models with a large direction put before the final norm."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens.load_model import load_model

from sae_lens_abstopk.model.logit_lens import TOKENS, token_effects


def loaded(folder: Path) -> Any:
    return load_model("AutoModelForCausalLM", str(folder), device="cpu", hook_names=[])


@pytest.mark.parametrize("preset", ["pythia-70m", "gpt2", "gemma-2-2b", "llama-3.1-8b"])
def test_the_lens_is_the_direction_s_effect_on_the_logits(preset: str, tiny_models: dict[str, Path]) -> None:
    model = loaded(tiny_models[preset])
    rows = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    effects, opposite = (token_effects(model, sign * rows, "model.layers.2") for sign in (1, -1))
    final = [module for name, module in model.model.named_modules() if type(module).__name__.endswith("Norm")][-1]
    head = model.model.get_output_embeddings()
    with torch.no_grad():
        logits = head(final(1e3 * rows)) - head(final(torch.zeros_like(rows)))
    assert effects.tokens[0].tolist() == logits.topk(TOKENS).indices.tolist()
    assert torch.equal(effects.tokens[0], opposite.tokens[1])
    assert torch.allclose(effects.by[0], -opposite.by[1], atol=1e-4)


@pytest.mark.parametrize(
    ("preset", "hook", "width", "in_stream"),
    [
        ("llama-3.1-8b", "model.layers.2", 32, True),
        ("llama-3.1-8b", "transformer.h.3.mlp", 32, True),
        ("llama-3.1-8b", "blocks.2.hook_resid_pre", 32, True),
        ("llama-3.1-8b", "blocks.2.hook_attn_out", 32, True),
        ("llama-3.1-8b", "model.layers.2", 48, False),
        ("llama-3.1-8b", "blocks.2.attn.hook_z", 32, False),
        ("llama-3.1-8b", "model.layers.2.self_attn.q_proj", 32, False),
        ("llama-3.1-8b", "blocks.2.ln2.hook_normalized", 32, False),
        ("gemma-2-2b", "model.layers.2", 32, True),
        # a norm lies between these and the stream
        ("gemma-2-2b", "model.layers.2.mlp", 32, False),
        ("gemma-2-2b", "model.layers.2.self_attn", 32, False),
    ],
)
def test_the_lens_is_for_directions_of_the_residual_stream(
    preset: str, hook: str, width: int, in_stream: bool, tiny_models: dict[str, Path]
) -> None:
    assert (token_effects(loaded(tiny_models[preset]), torch.randn(3, width), hook) is not None) == in_stream


def test_the_lens_leaves_out_padding_rows_of_the_vocabulary(tiny_llama: Path) -> None:
    model, rows = loaded(tiny_llama), torch.randn(3, 32)
    plain = token_effects(model, rows, "model.layers.2")
    model.model.resize_token_embeddings(len(model.tokenizer) + 100)
    padded = token_effects(model, rows, "model.layers.2")
    assert all(map(torch.equal, plain, padded))
