"""Seeds of one variant, matched with each other."""

import pytest
import torch

from sae_lens_abstopk.dictionary.stability import DictionaryMatch
from sae_lens_abstopk.evaluation import stability_part
from sae_lens_abstopk.evaluation.stability_part import match_seeds
from tests.evaluation.steerable import topk_sae


def test_seeds_of_many_latents_are_not_matched_and_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = (topk_sae() for _ in range(2))
    large.cfg.d_sae = 99
    monkeypatch.setattr(stability_part, "LARGEST_MATCHED", 64)
    with pytest.warns(UserWarning, match="stability of [ab] and c is not measured: with 99 latents") as told:
        found = match_seeds({"a": small, "b": small, "c": large}, dict.fromkeys("abc", "topk"))
    assert len(told) == 2
    assert [(pair.first, pair.second) for pair in found] == [("a", "b")]
    assert found[0].mean_cosine == pytest.approx(1, abs=1e-6)


def test_each_number_of_a_match_has_its_own_field(monkeypatch: pytest.MonkeyPatch) -> None:
    similarity, latents = torch.tensor([0.8, 0.95]), torch.arange(2)
    match = DictionaryMatch(latents, latents, -similarity, similarity)
    monkeypatch.setattr(stability_part, "match_saes", lambda *_: match)
    (found,) = match_seeds({"a": topk_sae(), "b": topk_sae()}, dict.fromkeys("ab", "topk"))
    assert found.model_dump() == {
        "first": "a",
        "second": "b",
        "mean_cosine": pytest.approx(0.875),
        "share_above_0_7": 1.0,
        "share_above_0_9": 0.5,
    }
