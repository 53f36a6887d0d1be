"""Refusals under steering: whose texts are asked, under which edit, and that the two poles are told apart."""

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from sae_lens_abstopk.evaluation import behaviour
from sae_lens_abstopk.evaluation.behaviour import measure_behaviour
from sae_lens_abstopk.evaluation.intervals import Estimate
from sae_lens_abstopk.evaluation.steering.interventions import Intervention
from sae_lens_abstopk.evaluation.steering.refusal import RefusalScores
from sae_lens_abstopk.evaluation.steering.steer import steer
from sae_lens_abstopk.evaluation.suite import BehaviourOptions
from sae_lens_abstopk.evaluation.tasks.task import Example, make_task
from sae_lens_abstopk.model.generation import TextModel
from sae_lens_abstopk.model.token_filter import TokenFilter
from tests.evaluation.steerable import HOOKS, model_of, signed_sae


def test_refusals_of_each_pole_are_measured_under_each_intervention_at_its_strengths(
    tiny_models: dict[str, Path], tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, chat, hook = model_of("gpt2", tiny_models), deepcopy(tokenizer), HOOKS["gpt2"]
    chat.chat_template = "{% for m in messages %}{{ m.content }}: {% endfor %}"
    model.tokenizer = chat
    sae, everywhere = signed_sae(hook), TokenFilter()
    cfg = SimpleNamespace(hook_name=hook, autocast_lm=False)
    subjects: Any = SimpleNamespace(saes={"mine": sae}, model=model, cfg=cfg, token_filter=everywhere)
    examples = [Example(f"{'AB'[pole]}, text {i}", pole, f"{pole}{i}") for i in range(10) for pole in (0, 1)]
    task = make_task("refusal", ("harmful", "harmless"), examples)
    matched = SimpleNamespace(towards_a=SimpleNamespace(strength=-2.0), towards_b=SimpleNamespace(strength=3.0))
    latents = (Intervention("latent", "add", 20.0, 5), Intervention("clamp", "clamp", 20.0, 5))
    response: Any = SimpleNamespace(interventions=latents, summary=lambda _: matched)
    asked, logits = [], []

    def measured(text_model: TextModel, harmful: list[str], harmless: list[str], **_: Any) -> RefusalScores:
        asked.append((set(harmful), set(harmless)))
        logits.append(text_model.next_logits(text_model.encode(["The river"])))
        return RefusalScores(Estimate(0.75, 0.7, 0.8, 2), Estimate(0.25, 0.2, 0.3, 2), ("No.",))

    monkeypatch.setattr(behaviour, "measure_refusal", measured)
    options = BehaviourOptions(questions=0)
    found = measure_behaviour(subjects, task, "mine", response, options, seed=3, on_progress=lambda *_: None)
    of_test = [examples[row] for row in task.split(3).test]
    assert asked == [tuple({each.text for each in of_test if each.pole == pole} for pole in (0, 1))] * 3
    text_model = TextModel(model, chat=True)
    for strength, seen in zip((0.0, -2.0, 3.0), logits, strict=True):
        with steer(model, sae, latent=5, strength=strength, scale=20.0, token_filter=everywhere):
            assert torch.equal(text_model.next_logits(text_model.encode(["The river"])), seen)
    assert not any(torch.equal(logits[0], steered) for steered in logits[1:])
    assert {name: [one.strength for one in records] for name, records in found.items()} == {
        "unsteered": [0.0],
        "latent": [-2.0, 3.0],
    }
    for one in (one for records in found.values() for one in records):
        assert (one.refused_harmful.value, one.refused_harmless.value) == (0.75, 0.25)
