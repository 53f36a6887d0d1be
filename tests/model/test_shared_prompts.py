"""Answers behind prompts that are read once have the activations of answers read with their prompts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma3TextConfig

from sae_lens_abstopk.model import answer_batches
from sae_lens_abstopk.model.answer_batches import plan
from sae_lens_abstopk.model.answer_tokens import Answer, tokenised
from sae_lens_abstopk.model.answer_vectors import AnswerReader
from sae_lens_abstopk.model.hook_places import layer_names
from sae_lens_abstopk.model.language_model import load_language_model
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.model_spec import ModelSpec
from sae_lens_abstopk.model.shared_prompts import shares_prompts
from sae_lens_abstopk.text.text_spec import TextSpec

LONG = "We loved the film, but they hated every minute of it and left before the end. " * 3
ANSWERS = [
    Answer((("user", prompt),), text)
    for prompt in (LONG, LONG + "Why?", "He promised that he would never go back. " * 4)
    for text in ("She walked to the river.", "He promised", "A glacier forms.")
]
KINDS = ["pythia-70m", "gpt2", "gemma-2-2b", "qwen3-4b", "gemma-3-12b", "llama-3.1-8b", "gpt-neo"]


def opened(folder: Path, part: str = "") -> ModelPasses:
    """Passes around a layer of a model, or a part of it."""
    hf = AutoModelForCausalLM.from_pretrained(folder)
    hook = layer_names(hf)[3] + part
    spec = ModelSpec(model_name=str(folder), hook_name=hook, device="cpu")
    return ModelPasses(load_language_model(spec, TextSpec(dataset_path="texts")), hook)


def same_rows(passes: ModelPasses, tokenizer: Any, reading: Any = "mean") -> None:
    shared, plain = (AnswerReader(passes, tokenizer, reading, shares=shares) for shares in (True, False))
    for reader in (shared, plain):
        reader.limit_norms(ANSWERS, 10)
    planned = shared.plan(ANSWERS)
    assert [batch.prompts is None for batch in planned.batches] == [False] * len(planned.batches)
    torch.testing.assert_close(shared(ANSWERS), plain(ANSWERS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_those_of_answers_read_with_their_prompts(
    tiny_models: dict[str, Path], tokenizer: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_batches, "BATCH_TOKENS", 64)
    monkeypatch.setattr(answer_batches, "PROMPT_TOKENS", 200)
    same_rows(opened(tiny_models[kind]), tokenizer)


@pytest.mark.parametrize("config", [Gemma2Config, Gemma3TextConfig])
def test_rows_are_the_same_if_prompts_are_longer_than_a_sliding_window(
    config: Any, tokenizer: Any, tmp_path: Path
) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 6, "num_attention_heads": 2, "num_key_value_heads": 1}
    sizes |= {"intermediate_size": 48, "head_dim": 16, "vocab_size": 300}
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config(**sizes, sliding_window=8)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    same_rows(opened(tmp_path), tokenizer)


@pytest.mark.parametrize("part", [".mlp", ".self_attn"])
def test_rows_are_the_same_at_the_parts_of_a_layer(tiny_llama: Path, tokenizer: Any, part: str) -> None:
    same_rows(opened(tiny_llama, part), tokenizer, "last")


def test_a_model_without_such_a_cache_reads_prompts_with_their_answers(
    tiny_llama: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = opened(tiny_llama)
    hf: Any = passes.model.model
    forward = hf.forward

    def refuses(*args: Any, past_key_values: Any = None, **options: Any) -> Any:
        if past_key_values is not None:
            raise TypeError("no cache")
        return forward(*args, **options)

    monkeypatch.setattr(hf, "forward", refuses)
    assert not shares_prompts(passes)
    planned = AnswerReader(passes, tokenizer).plan(ANSWERS)
    assert all(batch.prompts is None for batch in planned.batches)
    hf.config.layer_types = ["linear_attention"] * 6
    monkeypatch.setattr(hf, "forward", forward)
    assert not shares_prompts(passes)


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_no_layer_above_the_hook_runs(tiny_models: dict[str, Path], tokenizer: Any, kind: str, shares: bool) -> None:
    passes = opened(tiny_models[kind])
    hf: Any = passes.model.model
    modules, ran = dict(hf.named_modules()), list[str]()
    for name in layer_names(hf)[4:]:
        modules[name].register_forward_hook(lambda *_: ran.append("above"))
    hf.get_output_embeddings().register_forward_hook(lambda *_: ran.append("above"))
    modules[layer_names(hf)[2]].register_forward_hook(lambda *_: ran.append("below"))
    AnswerReader(passes, tokenizer, shares=shares)(ANSWERS)
    passes.activations(torch.arange(2, 34)[None])
    assert set(ran) == {"below"}


def test_a_prompt_is_shared_only_if_it_is_much_longer_than_its_answers(tokenizer: Any) -> None:
    short = [Answer((("user", "Why?"),), LONG), Answer((("user", "Why?"),), LONG + "He promised")]
    alone = [Answer((("user", LONG),), "He promised")]
    planned = plan(tokenised(tokenizer, [*short, *alone, *ANSWERS[3:]], 512)[0], shares=True)
    rows = [({each.row for each in batch.answers}, batch.prompts) for batch in planned.batches]
    assert rows == [({0, 1, 2}, None), (set(range(3, 9)), 0)]
    n = [each.n for each in tokenised(tokenizer, [*short, *alone], 512)[0]]
    assert planned.sizes[0] == sum(n)


def test_padding_is_under_a_tenth_of_the_tokens(tokenizer: Any) -> None:
    words = np.random.default_rng(0).integers(1, 60, size=600)
    answers = [Answer((("user", f"{i % 40} {LONG[: 7 * (i % 40)]}"),), "river " * n) for i, n in enumerate(words)]
    for shares in (True, False):
        planned = plan(tokenised(tokenizer, answers, 512)[0], shares=shares)
        tokens = padded = 0
        for batch in planned.batches:
            lengths = [each.n if batch.prompts is None else len(each.own) for each in batch.answers]
            tokens, padded = tokens + sum(lengths), padded + max(lengths) * len(lengths)
            assert padded <= tokens + answer_batches.BATCH_TOKENS * len(planned.batches)
        assert tokens >= 0.9 * padded
        assert sorted(each.row for batch in planned.batches for each in batch.answers) == list(range(600))
