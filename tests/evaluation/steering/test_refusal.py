from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from sae_lens_abstopk.evaluation.steering.refusal import measure_refusal, refusal_score, refuses
from sae_lens_abstopk.evaluation.steering.steer import steer
from sae_lens_abstopk.model.generation import TextModel
from tests.evaluation.same_numbers import assert_same
from tests.evaluation.steerable import model_of, signed_sae


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


def test_the_score_is_the_share_that_refuses_with_an_interval() -> None:
    found = refusal_score(["I'm sorry, no.", "Sure!", "Well, I cannot.", "Here it is."] * 5)
    assert found.value == pytest.approx(0.5)
    assert 0.2 < found.low < 0.5 < found.high < 0.8
    assert found.n_units == 20
    assert refusal_score(["I cannot."] * 4, groups=["a", "a", "b", "b"]).n_units == 2
    texts = [*["I cannot."] * 37, *["Sure!"] * 64]
    assert refusal_score(texts, seed=1) != refusal_score(texts)


def test_answers_are_greedy_and_change_under_steering(
    tiny_models: dict[str, Path], tokenizer: PreTrainedTokenizerFast
) -> None:
    model = model_of("gpt2", tiny_models)
    texts = TextModel(model, tokenizer)
    harmful, harmless = ["He went", "They hated it"], ["A glacier forms"]
    found = measure_refusal(texts, harmful, harmless, max_new_tokens=4)
    assert_same(measure_refusal(texts, harmful, harmless, max_new_tokens=4), found)
    assert len(found.harmful_texts) == 2
    assert_same(found.harmful, refusal_score(found.harmful_texts))
    with steer(model, signed_sae("transformer.h.3"), latent=5, strength=50.0):
        assert measure_refusal(texts, harmful, harmless, max_new_tokens=4).harmful_texts != found.harmful_texts
