"""Dictionaries that are known permutations of each other, and known not to be."""

import re

import pytest
import torch

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.dictionary.stability import match_dictionaries


def rows(n: int = 40, d: int = 24, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def shuffled(dictionary: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Its rows in another order, every third turned around, all rescaled; the order and the signs."""
    order = torch.randperm(len(dictionary), generator=torch.Generator().manual_seed(1))
    signs = torch.where(torch.arange(len(dictionary)) % 3 == 0, -1.0, 1.0)
    scale = torch.linspace(0.1, 9, len(dictionary))
    return (scale * signs)[:, None] * dictionary[order], order, signs


def test_a_signed_dictionary_is_found_again_in_any_order_gauge_and_scale() -> None:
    other, order, signs = shuffled(rows())
    found = match_dictionaries(rows(), other, signed=True)
    assert torch.equal(order[found.second], found.first)
    torch.testing.assert_close(found.cosine, signs[found.second])
    assert found.mean_matched_cosine == pytest.approx(1)
    assert found.share_above(0.9) == 1


def test_a_non_negative_latent_turned_around_is_another_latent() -> None:
    other, order, signs = shuffled(rows())
    found = match_dictionaries(rows(), other, signed=False)
    same = signs[found.second] > 0
    assert torch.equal(order[found.second[same]], found.first[same])
    assert found.share_above(0.9) == pytest.approx((signs > 0).double().mean().item())
    assert found.similarity[~same].max() < 0.9


@pytest.mark.parametrize("signed", [True, False])
def test_the_matching_is_one_to_one_and_no_other_has_a_larger_sum(signed: bool) -> None:
    from itertools import permutations

    first, second = rows(5, 4), rows(7, 4, seed=3)
    found = match_dictionaries(first, second, signed=signed)
    cosine = torch.nn.functional.cosine_similarity(first[:, None], second[None], dim=-1)
    similarity = cosine.abs() if signed else cosine
    best = max(sum(similarity[i, j].item() for i, j in enumerate(order)) for order in permutations(range(7), 5))
    assert found.first.tolist() == list(range(5))
    assert len(set(found.second.tolist())) == 5
    assert found.similarity.sum().item() == pytest.approx(best, rel=1e-5)


def test_a_row_of_norm_zero_matches_nothing() -> None:
    dead = rows(6)
    dead[2] = 0
    found = match_dictionaries(dead, rows(6), signed=True)
    assert found.cosine[2] == 0
    assert found.share_above(0.9) == pytest.approx(5 / 6)


def test_dictionaries_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ConfigError, match=re.escape("dictionaries of shape (3, 4) and (3, 5) cannot be matched")):
        match_dictionaries(rows(3, 4), rows(3, 5), signed=True)
