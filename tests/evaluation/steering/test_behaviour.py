"""Refusals and questions under steering: texts, edits and poles."""

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from sae_lens_abstopk.evaluation.results.bootstrap import mean_estimate
from sae_lens_abstopk.evaluation.steering import behaviour
from sae_lens_abstopk.evaluation.steering.behaviour import RefusalScores, measure_behaviour, measure_refusal, refuses
from sae_lens_abstopk.evaluation.steering.interventions import Intervention
from sae_lens_abstopk.evaluation.steering.steer import steer
from sae_lens_abstopk.evaluation.tasks.task import Example, Task
from sae_lens_abstopk.model.generation import TextModel
from sae_lens_abstopk.model.model_spec import ModelSpec
from sae_lens_abstopk.model.token_filter import TokenFilter
from tests.evaluation.same_numbers import assert_same
from tests.evaluation.steerable import HOOKS, model_of, signed_sae


@pytest.mark.parametrize("instructions", [1, 24])
def test_refusals_and_questions_are_measured_under_each_intervention_at_its_strengths(
    instructions: int,
    tiny_models: dict[str, Path],
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, chat, hook = model_of("gpt2", tiny_models), deepcopy(tokenizer), HOOKS["gpt2"]
    chat.chat_template = "{% for m in messages %}{{ m.content }}: {% endfor %}"
    model.tokenizer = chat
    sae, everywhere = signed_sae(hook), TokenFilter()
    spec = ModelSpec(model_name="gpt2", hook_name=hook)
    subjects: Any = SimpleNamespace(saes={"mine": sae}, model=model, model_spec=spec, token_filter=everywhere)
    examples = [Example(f"{'AB'[pole]}, text {i}", pole, f"{pole}{i}") for i in range(10) for pole in (0, 1)]
    task = Task("refusal", ("harmful", "harmless"), tuple(examples))
    matched = SimpleNamespace(
        towards_a=SimpleNamespace(strength=-2.0, reached=True), towards_b=SimpleNamespace(strength=3.0, reached=False)
    )
    latents = Intervention("latent", "add", 20.0, 5), Intervention("clamp", "clamp", 20.0, 5)
    response: Any = SimpleNamespace(interventions=latents, records={"latent": matched})
    asked, logits, questions = [], [], []

    def measured(text_model: TextModel, harmful: list[str], harmless: list[str], **options: Any) -> RefusalScores:
        of_harmful, of_harmless = options.pop("groups")
        asked.append((set(zip(harmful, of_harmful, strict=True)), set(zip(harmless, of_harmless, strict=True))))
        assert options == {"max_new_tokens": 7, "seed": 3}
        logits.append(text_model.next_logits(text_model.encode(["The river"])))
        return RefusalScores(mean_estimate([0.75]), mean_estimate([0.25]), ("No.",))

    def answered(*, steering: Path | None, limit: int, **_: Any) -> tuple[float, ...]:
        (steered,) = torch.load(steering).values() if steering else [None]
        questions.append((steered and steered["steering_coefficient"], limit))
        return (1.0, 1.0, 0.0, 0.0, 0.0) if steering is None else (1.0, 0.0, 0.0, 1.0, 1.0)

    monkeypatch.setattr(behaviour, "measure_refusal", measured)
    monkeypatch.setattr(behaviour, "multiple_choice", answered)
    given: dict[str, Any] = {"instructions": instructions, "max_new_tokens": 7, "questions": 5, "seed": 3}
    given["on_progress"] = lambda *_: None
    found, unsteered = measure_behaviour(subjects, task, "mine", response, **given)
    of_test = [examples[row] for row in task.split(3).test]
    for pole, texts in enumerate(asked[0]):
        test = {(each.text, each.group) for each in of_test if each.pole == pole}
        assert texts <= test
        assert len(texts) == min(instructions, len(test))
    assert asked == asked[:1] * 3
    assert questions == [(None, 5), (-2.0, 5), (3.0, 5)]
    text_model = TextModel(model, chat=True)
    for strength, seen in zip((0.0, -2.0, 3.0), logits, strict=True):
        with steer(model, sae, latent=5, strength=strength, scale=20.0, token_filter=everywhere):
            assert torch.equal(text_model.next_logits(text_model.encode(["The river"])), seen)
    assert found.keys() == {"unsteered", "latent"}
    plain, towards_a, towards_b = *found["unsteered"], *found["latent"]
    assert (plain.multiple_choice, plain.multiple_choice_change) == (mean_estimate((1, 1, 0, 0, 0), seed=3), None)
    for one, strength, reached in ((plain, 0.0, True), (towards_a, -2.0, True), (towards_b, 3.0, False)):
        assert (one.strength, one.reached, one.answer) == (strength, reached, "No.")
        assert (one.refused_harmful.value, one.refused_harmless.value) == (0.75, 0.25)
    for one in (towards_a, towards_b):
        assert one.multiple_choice == mean_estimate((1, 0, 0, 1, 1), seed=3)
        assert one.multiple_choice_change == mean_estimate((0, -1, 0, 1, 1), seed=3)
    again, _ = measure_behaviour(subjects, task, "mine", response, unsteered=unsteered, **given)
    assert (again, questions[3:]) == (found, questions[1:3])


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("Unfortunately, I am not able to help.", True),
        ("I’M SORRY, no.", True),
        ("Sure! Here is how.", False),
        ("As an AI-generated list, here", True),  # a known weakness of the published list
    ],
)
def test_the_published_substrings_count_anywhere(text: str, refused: bool) -> None:
    assert refuses(text) == refused


def test_answers_are_greedy_and_change_under_steering(
    tiny_models: dict[str, Path], tokenizer: PreTrainedTokenizerFast
) -> None:
    model = model_of("gpt2", tiny_models)
    texts = TextModel(model, tokenizer)
    harmful, harmless = ["He went", "They hated it"], ["A glacier forms"]
    found = measure_refusal(texts, harmful, harmless, max_new_tokens=4)
    assert_same(measure_refusal(texts, harmful, harmless, max_new_tokens=4), found)
    assert found.harmful.value == np.mean([refuses(text) for text in found.harmful_texts])
    with steer(model, signed_sae(HOOKS["gpt2"]), latent=5, strength=50.0, scale=1.0):
        assert measure_refusal(texts, harmful, harmless, max_new_tokens=4).harmful_texts != found.harmful_texts
