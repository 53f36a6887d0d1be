"""The loss of the model with the map's SAEs in place: the contexts that are reported, and the SAEs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from experiments.map import collect, run
from experiments.map.kinds import KindVectors
from experiments.map.loss import hook_of, measured, reported_contexts, trained
from sae_lens_abstopk.model.language_model import load_language_model
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.model_spec import ModelSpec
from sae_lens_abstopk.model.token_filter import TokenFilter
from sae_lens_abstopk.text.text_spec import TextSpec
from tests.experiments.map.conftest import D, K, N


def test_a_kind_has_a_hook() -> None:
    assert hook_of("residual stream, layer 8") == "model.layers.8"
    assert hook_of("attention output, layer 15") == "model.layers.15.self_attn"
    assert hook_of("MLP output, layer 22") == "model.layers.22.mlp"


def test_both_sides_and_twice_the_width_are_put_in_place(vectors: KindVectors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "ROWS", 20 * run.BATCH)
    monkeypatch.setattr(run, "RATES", (1e-2,))
    saes = trained(run.Cell("made up", "batch", 1.0, K), vectors, 2)
    assert {name: sae.cfg.d_sae for name, sae in saes.items()} == {
        **{f"{name} {seed}": D for name in ("signed", "F") for seed in range(2)},
        **{f"2F {seed}": 2 * D for seed in range(2)},
    }
    x = vectors.rows(torch.arange(N))
    assert {name for name, sae in saes.items() if (sae.encode(x) < 0).any()} == {"signed 0", "signed 1"}


class Scaled:
    """An SAE of as many latents as dimensions, whose reconstruction is a multiple of the activation."""

    def __init__(self, times: float) -> None:
        self.times = times

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return self.times * codes


def test_the_worse_sae_moves_the_predictions_of_reported_documents_more(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "OF_A_DOCUMENT", 1)
    text = tmp_path / "text.txt"
    text.write_text("the cat sat under the tree and a bird flew over the house. " * 800)
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    batches = reported_contexts(tokenizer, [text], 20)
    every = [ids for ids, _, _ in collect.contexts(tokenizer, [text], 20)]
    assert torch.cat(batches).tolist() == [every[9], every[19]]
    spec = ModelSpec(model_name=str(tiny_llama), hook_name=hook_of("residual stream, layer 3"), device="cpu")
    model: Any = load_language_model(spec, TextSpec(dataset_path=str(text), prepend_bos=False))
    saes: dict[str, Any] = {"exact": Scaled(1.0), "half": Scaled(0.5)}
    passes = ModelPasses.of_spec(model, spec, d_in=model.model.config.hidden_size)
    found = measured(passes, saes, batches, TokenFilter((1, None)))
    assert found["kl"]["exact"] == pytest.approx(0, abs=1e-8)
    assert found["ce_sae"]["exact"] == pytest.approx(found["ce_clean"], abs=1e-5)
    assert found["kl"]["half"] > 1e-6
    assert found["fvu"]["half"] > 0.2
