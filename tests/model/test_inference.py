"""Bfloat16 autocast of the language model: where the processor is fast in it, and nowhere else."""

from typing import Any

import pytest
import torch

from sae_lens_abstopk.model.generation import TextModel
from sae_lens_abstopk.model.inference import autocast_pays, bfloat16_autocast
from sae_lens_abstopk.model.text_store import TextStore
from sae_lens_abstopk.training.config.config_file import build_config
from tests.specs import documents_of, model_of, passes_of

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
