"""Batches equal single texts, and samples follow the distribution."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.evaluation.steering.steer import steer
from sae_lens_abstopk.model.generation import TextModel, TokenBatch, _Sampler
from tests.evaluation.steerable import hook_of, logits_of, model_of, signed_sae

Tokenizer, Folders = PreTrainedTokenizerFast, dict[str, Path]
TEXTS = ["He went to the river.", "A glacier", "They hated every minute of it and left before the end of the film."]


@pytest.fixture(
    scope="module", params=["gpt2", "llama-3.1-8b", "pythia-70m", "gemma-2-2b", "proxy", "bridge", "hooked"]
)
def text_model(request: pytest.FixtureRequest, tiny_models: Folders, tokenizer: Tokenizer) -> tuple[str, TextModel]:
    model = model_of(request.param, tiny_models)
    for name, weights in model.named_parameters():  # sharper than at random, so that the tokens differ in likelihood
        if name.endswith(("lm_head.weight", "embed_out.weight", "unembed.W_U")):
            weights.data *= 40
    return request.param, TextModel(model, tokenizer, batch_size=2)


def test_padded_batches_give_what_single_texts_give(text_model: tuple[str, TextModel], tokenizer: Tokenizer) -> None:
    kind, texts = text_model
    batch, found = texts.encode(TEXTS), []
    assert batch.mask.sum(1).tolist() == [len(row) for row in tokenizer(TEXTS)["input_ids"]]
    for strength in (0.0, 20.0):
        with steer(
            texts.model, signed_sae(hook_of(kind), seqpos_slice=(1, None)), latent=5, strength=strength, scale=1.0
        ):
            found.append(texts.nll(batch))
            next_logits = texts.next_logits(batch)
            for i, text in enumerate(TEXTS):
                ids = torch.tensor(tokenizer(text)["input_ids"])[None]
                logits = logits_of(texts.model, ids)[0]
                assert found[-1][i].item() == pytest.approx(cross_entropy(logits[:-1], ids[0, 1:]).item(), rel=1e-3)
                torch.testing.assert_close(next_logits[i], logits[-1], atol=2e-3, rtol=1e-3)
    assert (found[1] - found[0]).abs().max() > 1e-4
    of_one = batch.ids[:, -1:]
    assert texts.nll(TokenBatch(of_one, torch.ones_like(of_one))).tolist() == [0, 0, 0], "nothing predicts it"


def test_greedy_texts_and_their_cost_are_those_of_single_prompts(
    text_model: tuple[str, TextModel], tokenizer: Tokenizer
) -> None:
    _, texts = text_model
    generated = texts.generate(texts.encode(TEXTS), samples=2, max_new_tokens=5, temperature=0)
    costs = texts.generated_nll(generated)
    assert len(generated.texts) == len(costs) == 6
    for i, text in enumerate(TEXTS):
        ids = torch.tensor(tokenizer(text)["input_ids"])[None]
        start = ids.shape[1]
        for _ in range(5):
            ids = torch.cat([ids, logits_of(texts.model, ids)[:, -1:].argmax(-1)], dim=1)
            if ids[0, -1] == tokenizer.eos_token_id:
                break
        new = generated.new.ids[2 * i][generated.new.mask[2 * i].bool()]
        assert new.tolist() == ids[0, start:].tolist()
        assert generated.texts[2 * i] == tokenizer.decode(new, skip_special_tokens=True)
        losses = cross_entropy(logits_of(texts.model, ids)[0, :-1], ids[0, 1:], reduction="none")[start - 1 :]
        assert costs[2 * i].item() == pytest.approx(losses.mean().item(), rel=2e-3, abs=1e-3)


def test_sampling_repeats_with_the_seed_and_not_with_another_batch_size(text_model: tuple[str, TextModel]) -> None:
    _, texts = text_model
    prompts = texts.encode(TEXTS)
    wide = TextModel(texts.model, texts.tokenizer, batch_size=64)
    first = texts.generate(prompts, samples=3, max_new_tokens=4, seed=1)
    assert first.texts == wide.generate(prompts, samples=3, max_new_tokens=4, seed=1).texts
    assert first.texts != texts.generate(prompts, samples=3, max_new_tokens=4, seed=2).texts
    assert len(set(first.texts[:3])) > 1  # the samples of one prompt have numbers of their own


def test_a_model_s_own_generation_config_changes_no_text_and_compiles_nothing(
    tiny_models: Folders, tokenizer: Tokenizer
) -> None:
    model: Any = model_of("gpt2", tiny_models)
    configs, generate, texts = [], model.generate, []
    model.generate = lambda **options: configs.append(options["generation_config"]) or generate(**options)
    text_model = TextModel(model, tokenizer)
    for penalty in (1.0, 5.0):
        model.generation_config.repetition_penalty = penalty
        texts.append(text_model.generate(text_model.encode(TEXTS), samples=2, max_new_tokens=12).texts)
    assert texts[0] == texts[1]
    assert all(config.disable_compile for config in configs), "compiled code would not call hooks opened later"


def test_samples_follow_the_distribution() -> None:
    logits = torch.tensor([[0.0, 1.0, -1.0, 2.0, -30.0]]).expand(20_000, -1)
    uniform = torch.rand(20_000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for temperature in (1.0, 0.5):
        chosen = _Sampler(uniform, temperature)(torch.zeros(20_000, 1), logits).argmax(-1)
        shares = torch.bincount(chosen, minlength=5) / 20_000
        torch.testing.assert_close(shares, (logits[0] / temperature).softmax(-1), atol=0.012, rtol=0)


def test_what_follows_an_end_of_text_is_not_counted(tiny_models: Folders, tokenizer: Tokenizer) -> None:
    model: Any = model_of("gpt2", tiny_models)
    texts = TextModel(model, tokenizer)
    prompts = texts.encode(TEXTS[:1])
    free = texts.generate(prompts, samples=1, max_new_tokens=4, temperature=0)
    model.generation_config.eos_token_id = int(free.new.ids[0, 1])
    ended = TextModel(model, tokenizer).generate(prompts, samples=1, max_new_tokens=4, temperature=0)
    end = free.new.ids[0].tolist().index(model.generation_config.eos_token_id)
    assert ended.new.ids.tolist() == [free.new.ids[0, : end + 1].tolist()]


@pytest.mark.parametrize("kind", ["tokenizer", "bos_tokenizer"])
def test_chat_prompts_go_through_the_template(
    kind: str, tiny_models: Folders, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = model_of("gpt2", tiny_models), request.getfixturevalue(kind)
    with pytest.raises(ConfigError, match="chat template"):
        TextModel(model, tokenizer, chat=True)
    template = (
        "{% for m in messages %}<s>{{ m['content'] }}</s>{% endfor %}{% if add_generation_prompt %}<s>{% endif %}"
        "{% if enable_thinking is not defined or enable_thinking %}Hm{% endif %}"
    )
    monkeypatch.setattr(tokenizer, "chat_template", template)
    batch = TextModel(model, tokenizer, chat=True).encode(["He went"])
    assert tokenizer.decode(batch.ids[0]) == "<s>He went</s><s>"
    assert TextModel(model, tokenizer, chat=True).encode(["He"], chat=False).ids.shape[1] < 4


def test_a_text_starts_with_bos_where_asked(
    tiny_models: Folders, tokenizer: Tokenizer, bos_tokenizer: Tokenizer
) -> None:
    model = model_of("gpt2", tiny_models)
    without = tokenizer(["He"])["input_ids"]
    with_bos = [[tokenizer.bos_token_id, *without[0]]]
    for own, default in ((tokenizer, without), (bos_tokenizer, with_bos)):
        for bos, expected in ((True, with_bos), (False, without), (None, default)):
            assert TextModel(model, own, prepend_bos=bos).encode(["He"]).ids.tolist() == expected
    without_bos = deepcopy(tokenizer)
    without_bos.bos_token = None
    assert TextModel(model, without_bos, prepend_bos=True).encode(["He"]).ids.tolist() == without
    with pytest.raises(ConfigError, match="has no token"):
        TextModel(model, tokenizer).encode(["He", ""])
