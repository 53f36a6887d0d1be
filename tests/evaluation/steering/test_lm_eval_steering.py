"""The exported file, as lm-evaluation-harness reads it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.evaluation.steering.interventions import Intervention
from sae_lens_abstopk.evaluation.steering.lm_eval_steering import (
    _require_questions,
    export_for_lm_eval,
    multiple_choice,
    steered_module,
)
from sae_lens_abstopk.evaluation.steering.steer import steer
from sae_lens_abstopk.model.token_filter import TokenFilter
from tests.evaluation.steerable import HOOKS, logits_of, model_of, random_tokens, signed_sae, topk_sae

LATENT = Intervention("latent", "add", 2.0, 5, -1)


@pytest.mark.parametrize(
    ("kind", "within"), [("llama-3.1-8b", "layers.3"), ("gpt2", "h.3"), ("gemma-3-12b", "language_model.layers.3")]
)
def test_the_module_is_named_from_the_base_model_on(
    kind: str, within: str, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    sae = signed_sae("blocks.3.hook_resid_post")
    path = export_for_lm_eval(tmp_path / "s.pt", str(tiny_models[kind]), sae, LATENT, 1.5)
    (name,), (entry,) = zip(*torch.load(path, weights_only=True).items(), strict=True)
    assert name == within
    assert entry["action"] == "add"
    torch.testing.assert_close(entry["steering_vector"] * entry["steering_coefficient"], -3.0 * sae.W_dec[5].detach())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"intervention": Intervention("clamp", "clamp", 2.0, 5)}, "operator='clamp' must be add"),
        ({"sae": topk_sae(normalize_activations="layer_norm")}, "'layer_norm'.* by_gain=False"),
        ({"hook_name": "lm_head"}, "inside the base model"),
    ],
)
def test_what_lm_eval_cannot_do_is_refused(
    options: dict[str, Any], sentence: str, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    arguments = {"path": tmp_path / "s.pt", "sae": signed_sae(), "intervention": LATENT, "strength": 1.0} | options
    with pytest.raises(ConfigError, match=sentence):
        export_for_lm_eval(model=str(tiny_models["llama-3.1-8b"]), **arguments)


def test_a_direction_is_exported_for_any_sae(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    sae, folder = topk_sae(normalize_activations="layer_norm"), str(tiny_models["llama-3.1-8b"])
    direction = Intervention("d", "add", 2.0, direction=torch.ones(32))
    path = export_for_lm_eval(tmp_path / "s.pt", folder, sae, direction, 1.0)
    torch.testing.assert_close(torch.load(path)["layers.3"]["steering_vector"], torch.full((32,), 2 / 32**0.5))
    with pytest.raises(ConfigError, match="by_gain=False"):
        export_for_lm_eval(tmp_path / "s.pt", folder, sae, replace(direction, by_gain=True), 1.0)


def test_a_bridge_is_steered_at_its_layers_and_a_hooked_transformer_not_at_all(tiny_models: dict[str, Path]) -> None:
    bridge = model_of("bridge", tiny_models)
    assert steered_module(bridge, signed_sae("blocks.3.hook_resid_post")) == "layers.3"
    with pytest.raises(ConfigError, match=r"blocks\.3\.hook_mlp_out"):
        steered_module(bridge, signed_sae("blocks.3.hook_mlp_out"))
    with pytest.raises(ConfigError, match="a transformers model"):
        steered_module(model_of("hooked", tiny_models), signed_sae())


def test_lm_eval_loads_the_model_as_the_evaluation_did(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [{"doc_id": 1, "acc": 0.0}, {"doc_id": 0, "acc": 1.0}] * 2  # of two filters
    lm_eval = MagicMock()
    lm_eval.simple_evaluate.return_value = {"samples": {"t": samples}}
    monkeypatch.setattr("sae_lens_abstopk.evaluation.steering.lm_eval_steering.require_lm_eval", lambda: lm_eval)
    answered = multiple_choice("model", model_kwargs={"torch_dtype": "bfloat16", "revision": "step1000"})
    assert answered == (1.0, 0.0)
    given = lm_eval.api.registry.get_model.return_value.call_args.kwargs
    assert given.items() >= {"pretrained": "model", "dtype": "bfloat16", "revision": "step1000"}.items()


@pytest.mark.parametrize(
    "row",
    [
        {"question": "q", "choices": "a", "answer": 0},
        {"question": "q", "choices": ["a"]},
        {"question": "q", "choices": ["a", "b"], "answer": "B"},
        {"question": "q", "choices": ["a", "b"], "answer": 2},
    ],
)
def test_questions_that_lm_eval_cannot_score_are_refused(row: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps({"question": "q", "choices": ["a", "b"], "answer": 1}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(ConfigError, match=r"line 2: a question needs question .* index"):
        _require_questions(path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of lm_eval and what it loads
@pytest.mark.parametrize("kind", ["gpt2"])
def test_logits_of_lm_evals_steered_model_are_ours(kind: str, tiny_models: dict[str, Path], tmp_path: Path) -> None:
    from lm_eval.api.registry import get_model

    model, sae, tokens = model_of(kind, tiny_models), signed_sae(HOOKS[kind]), random_tokens(2, 9)
    path = export_for_lm_eval(tmp_path / "s.pt", model, sae, LATENT, 4.0)
    steered = get_model("steered")(
        pretrained=str(tiny_models[kind]), steer_path=str(path), device="cpu", dtype="float32"
    )
    clean = logits_of(model, tokens)
    with steer(model, sae, latent=5, strength=-4.0, scale=2.0, token_filter=TokenFilter()):
        expected = logits_of(model, tokens)
    torch.testing.assert_close(steered._model_call(tokens), expected, atol=1e-6, rtol=1e-5)
    assert (expected - clean).abs().max() > 1e-3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_questions_are_answered_by_lm_eval_steered_and_not(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    from lm_eval import simple_evaluate  # noqa: F401  # without it this would test nothing

    folder, questions = str(tiny_models["llama-3.1-8b"]), tmp_path / "questions.jsonl"
    asked = {"question": "Who went to the river?", "choices": ["she", "he", "a glacier"]}
    questions.write_text("".join(json.dumps({**asked, "answer": i % 3}) + "\n" for i in range(6)))
    path = export_for_lm_eval(tmp_path / "s.pt", folder, signed_sae(), LATENT, 0.0)
    plain = multiple_choice(folder, questions=questions)
    at_zero = multiple_choice(folder, questions=questions, steering=path)
    assert len(plain) == 6
    assert at_zero == plain
    # a direction that only one answer's first letter is written along makes that answer win everywhere
    model = model_of("llama-3.1-8b", tiny_models)
    proxy = model_of("proxy", tiny_models)
    glacier = model.get_output_embeddings().weight[proxy.tokenizer(" a")["input_ids"][0]].detach()
    towards = Intervention("direction", "add", 1.0, direction=glacier)
    path = export_for_lm_eval(tmp_path / "g.pt", model, signed_sae(), towards, 1e4, hook_name="model.layers.5")
    steered = multiple_choice(folder, questions=questions, steering=path)
    tokenizer, hooked = proxy.tokenizer, [len(each._forward_hooks) for each in model.modules()]
    tokenizer.pad_token = None  # which lm_eval gives its own
    assert multiple_choice(model, tokenizer=tokenizer, questions=questions, steering=path) == steered
    assert multiple_choice(model, tokenizer=tokenizer, questions=questions) == plain
    assert [len(each._forward_hooks) for each in model.modules()] == hooked
    assert tokenizer.pad_token is None
    assert (len(steered), sum(steered)) == (6, 2)  # the same answer to every question, and right to a third
