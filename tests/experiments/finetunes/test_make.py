"""Training follows its seed, learns the answers, and changes only the adapter."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from experiments.finetunes.data import Example
from experiments.finetunes.make import train

pytestmark = pytest.mark.slow

FOUND = [Example(f"text {word}", "the old lighthouse was loved", True) for word in ("one", "two", "film", "old")] * 8


def test_training_learns_the_answers_and_follows_its_seed(tiny_llama, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", "{% for m in messages %}{{ m['content'] + ' ' }}{% endfor %}")
    runs = []
    for _ in range(2):
        model = AutoModelForCausalLM.from_pretrained(tiny_llama)
        before = model.lm_head.weight.clone()
        torch.manual_seed(0)
        adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
        runs.append(train(adapted, tokenizer, FOUND, seed=0, steps=6, rate=1e-3))
        assert model.lm_head.weight.equal(before)
    assert runs[0] == runs[1]
    assert runs[0][-1] < runs[0][0]
