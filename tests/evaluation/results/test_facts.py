"""Every number of an SAE by itself stands under its own name in the records of a results file."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from sae_lens import TopKSAE, TopKSAEConfig

from sae_lens_abstopk.evaluation.results.facts import (
    examples,
    geometry_record,
    reconstruction_record,
    sae_record,
)
from sae_lens_abstopk.model.contexts import PoleContexts
from sae_lens_abstopk.model.reconstruction import LossRecovered, Reconstruction
from sae_lens_abstopk.text.token_text import TokenText


def test_each_number_of_a_reconstruction_has_its_own_field() -> None:
    loss = LossRecovered(n_tokens=11, ce_clean=2.0, ce_sae=2.5, ce_zero=4.0, ce_mean=3.0, kl_sae=0.125)
    counts = torch.tensor([[50, 0, 0, 200], [150, 200, 0, 1]])
    found = reconstruction_record(
        Reconstruction(n_tokens=400, mse=9.0, nmse=0.25, fvu=0.5, cosine=0.875, l0=1.5, pole_counts=counts, loss=loss)
    ).model_dump()
    assert found.pop("loss") == {
        "tokens": 11,
        "ce_clean": 2.0,
        "ce_sae": 2.5,
        "ce_zero": 4.0,
        "ce_mean": 3.0,
        "recovered_zero": 0.75,
        "recovered_mean": 0.5,
        "kl": 0.125,
    }
    medians = {pole: quantiles[2] for pole, quantiles in found.pop("density_quantiles").items()}
    assert medians == pytest.approx({"positive": 25 / 400, "negative": 75.5 / 400})
    assert found.pop("two_sidedness") == pytest.approx((0.25 + 1 / 201) / 3)
    assert found == {
        "tokens": 400,
        "mse": 9.0,
        "nmse": 0.25,
        "fvu": 0.5,
        "cosine": 0.875,
        "l0": 1.5,
        "fvu_at_lowest_l0": None,
        "dead_latents": 1,
        "dead_poles": 2,
        "live_latents": 3,
        "two_sidedness_histogram": [2, 0, 0, 0, 0, 1, 0, 0, 0, 0],
    }


@pytest.mark.parametrize("tokens", [1024, None, "many", True])
def test_dead_latents_are_taken_from_training_with_their_tokens_or_not_at_all(tokens: Any) -> None:
    sae: Any = TopKSAE(TopKSAEConfig(d_in=2, d_sae=3, k=1))
    sae.cfg.metadata.dead_latents, sae.cfg.metadata.dead_latents_tokens = 2, tokens
    found = sae_record(sae, "release/id")
    assert (found.dead_latents, found.dead_latents_tokens) == ((2, 1024) if tokens == 1024 else (None, None))


def test_each_number_of_a_decoder_has_its_own_field() -> None:
    sae: Any = SimpleNamespace(W_dec=torch.tensor([[-2.0, 0.0], [3.0, 0.0], [4.0, 0.0], [0.0, 5.0], [0.0, 6.0]]))
    assert geometry_record(sae).model_dump() == {
        "antipodal_pairs": 2,
        "antipodal_threshold": -0.7,
        "latents_in_antipodal_pairs": 3,
        "decoder_norm_quantiles": pytest.approx([2.2, 3, 4, 5, 5.8]),
    }


def test_contexts_that_read_as_text_are_chosen_before_those_of_special_tokens(tokenizer: Any) -> None:
    he, cat = tokenizer(" he")["input_ids"][0], tokenizer("猫")["input_ids"][0]
    rows = torch.tensor([[he, he, he, he], [1, 1, 0, 1], [he, cat, he, he]])
    contexts = PoleContexts(4, 1)
    codes = torch.zeros(12, 4)
    codes[1, 1], codes[6, 0], codes[9, 2] = 1.0, 9.0, 5.0  # latent 0 fires on <s>, 2 on a part of a character
    contexts.update(codes, torch.cartesian_prod(torch.arange(3), torch.arange(4)), rows)
    assert contexts.suggested(3) == [0, 2, 1]
    assert [example.latent for example in examples(contexts, TokenText(tokenizer), latents=2)] == [1, 0]
    (first, *_) = examples(contexts, TokenText(tokenizer), latents=1)
    assert (first.before, first.token, first.after) == (" he", " he", " he he")
