"""Answers read in batches against answers read one by one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sae_lens.load_model import load_model

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.model import answer_batches
from sae_lens_abstopk.model.answer_tokens import Answer, context_text
from sae_lens_abstopk.model.answer_vectors import AnswerReader
from sae_lens_abstopk.model.check_hook import chosen_hook
from sae_lens_abstopk.model.model_passes import ModelPasses

HOOK = "model.layers.2"
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
ANSWERS = [
    Answer((), "The old lighthouse keeper had not spoken to anyone for three weeks."),
    Answer((("user", "Where did she go?"),), "She walked to the river."),
    Answer((("system", "Be brief."), ("user", "And he?")), "He promised"),
    Answer((("user", "Where did she go?"),), "A glacier forms where snow falls year after year. " * 4),
    Answer((("user", "We loved the film, but they hated every minute of it. " * 8),), "Why?"),
]


@pytest.fixture(scope="module")
def passes(tiny_llama: Path) -> ModelPasses:
    return ModelPasses(load_model("AutoModelForCausalLM", str(tiny_llama), device="cpu", hook_names=[HOOK]), HOOK)


def plainly(passes: ModelPasses, tokenizer: Any, answer: Answer, reading: str, most: int) -> torch.Tensor:
    """Read an answer by itself; the norm limit is not applied."""

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False).input_ids

    context = ""
    if answer.before and tokenizer.chat_template:
        turns = [{"role": role, "content": content} for role, content in answer.before]
        context = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    elif answer.before:
        context = "".join(f"{content}\n\n" for _, content in answer.before)
    bos = [tokenizer.bos_token_id] if tokenizer("a").input_ids[0] == tokenizer.bos_token_id else []
    own = ids(answer.text)
    before = (bos + ids(context))[-max(most // 2, most - len(own)) :]
    own = own[: most - len(before)]
    x = passes.activations(torch.tensor([before + own]))[0]
    return x[-1] if reading == "last" else x[max(len(before), 1) :].mean(0)


@pytest.mark.parametrize("most", [512, 40])
@pytest.mark.parametrize("template", [None, TEMPLATE])
@pytest.mark.parametrize("kind", ["tokenizer", "bos_tokenizer"])
@pytest.mark.parametrize("reading", ["mean", "last"])
def test_batches_give_the_rows_of_answers_read_one_by_one(
    passes: ModelPasses,
    kind: str,
    template: str | None,
    reading: Any,
    most: int,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer = request.getfixturevalue(kind)
    monkeypatch.setattr(tokenizer, "chat_template", template)
    monkeypatch.setattr(answer_batches, "BATCH_TOKENS", 128)
    reader = AnswerReader(passes, tokenizer, reading, most)
    with torch.no_grad():
        expected = torch.stack([plainly(passes, tokenizer, answer, reading, most) for answer in ANSWERS])
    torch.testing.assert_close(reader(ANSWERS), expected, rtol=1e-4, atol=1e-5)
    assert bool(reader.n_cut) == (most == 40)


def test_a_mean_leaves_out_massive_activations(passes: ModelPasses, tokenizer: Any, monkeypatch: Any) -> None:
    reader = AnswerReader(passes, tokenizer)
    ordinary = reader(ANSWERS[:1])
    seen = passes.activations

    def with_a_massive_one(tokens: torch.Tensor) -> torch.Tensor:
        x = seen(tokens).clone()
        x[:, 5] *= 1000
        return x

    monkeypatch.setattr(passes, "activations", with_a_massive_one)
    assert (reader(ANSWERS[:1]) - ordinary).norm() > 10 * ordinary.norm()
    reader.limit_norms(ANSWERS, 10)
    assert (reader(ANSWERS[:1]) - ordinary).norm() < ordinary.norm()


def test_wrong_layers_and_hooks_are_refused_before_weights_are_read(tiny_llama: Path) -> None:
    name = str(tiny_llama)
    assert chosen_hook(name, layer=1) == "model.layers.1"
    assert chosen_hook(name, hook_name="model.layers.1.mlp") == "model.layers.1.mlp"
    for settings, said in (
        ({"layer": 99}, "layer=99 must be at least 0 and below"),
        ({"hook_name": "model.layers.1.mpl"}, "nearest: model.layers.1.mlp"),
        ({"layer": 1, "hook_name": HOOK}, "give layer or hook_name, not both"),
    ):
        with pytest.raises(ConfigError, match=said):
            chosen_hook(name, **settings)


def test_an_answer_without_tokens_is_refused(passes: ModelPasses, tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match="has no token"):
        AnswerReader(passes, tokenizer)([Answer((), "")])


def test_turns_that_a_chat_template_refuses_are_named(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "chat_template", "{{ raise_exception('no system turns') }}")
    with pytest.raises(ConfigError, match=r"does not take turns of system, user \(no system turns\); leave such pairs"):
        context_text(tokenizer, (("system", "Be brief."), ("user", "And he?")))
