"""Dictionaries that are known permutations of each other, and known not to be."""

import pytest
import torch

from sae_lens_abstopk import ConfigError, SignedJumpReLUSAE, SignedJumpReLUSAEConfig
from sae_lens_abstopk.dictionary.stability import DictionaryMatch, match_dictionaries, match_saes


def rows(n: int = 40, d: int = 24, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def all_or_none(first: torch.Tensor, second: torch.Tensor, *, signed: bool) -> DictionaryMatch:
    """Two dictionaries of one kind, matched."""
    return match_dictionaries(
        first, second, signed=(torch.full((len(first),), signed), torch.full((len(second),), signed))
    )


def shuffled(dictionary: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Its rows in another order, every third turned around, all rescaled; the order and the signs."""
    order = torch.randperm(len(dictionary), generator=torch.Generator().manual_seed(1))
    signs = torch.where(torch.arange(len(dictionary)) % 3 == 0, -1.0, 1.0)
    scale = torch.linspace(0.1, 9, len(dictionary))
    return (scale * signs)[:, None] * dictionary[order], order, signs


def test_a_signed_dictionary_is_found_again_in_any_order_gauge_and_scale() -> None:
    other, order, signs = shuffled(rows())
    found = all_or_none(rows(), other, signed=True)
    assert torch.equal(order[found.second], found.first)
    torch.testing.assert_close(found.cosine, signs[found.second])
    assert found.mean_matched_cosine == pytest.approx(1)
    assert found.share_above(0.9) == 1


def test_a_non_negative_latent_turned_around_is_another_latent() -> None:
    other, order, signs = shuffled(rows())
    found = all_or_none(rows(), other, signed=False)
    same = signs[found.second] > 0
    assert torch.equal(order[found.second[same]], found.first[same])
    assert found.share_above(0.9) == pytest.approx((signs > 0).double().mean().item())
    assert found.similarity[~same].max() < 0.9


def test_where_a_few_latents_are_signed_only_those_may_come_back_turned_around() -> None:
    cfg = {"d_in": 24, "d_sae": 40, "device": "cpu"}
    sae, other = (SignedJumpReLUSAE(SignedJumpReLUSAEConfig(**cfg, pole_thresholds=True)) for _ in range(2))
    for each in (sae, other):
        each.negative_threshold.data[10:] = torch.inf
    sae.W_dec.data = rows()
    other.W_dec.data = -rows()
    found = match_saes(sae, other)
    assert torch.equal(found.second[:10], torch.arange(10))
    torch.testing.assert_close(found.similarity[:10], torch.ones(10))
    torch.testing.assert_close(found.cosine[:10], -torch.ones(10))
    assert found.similarity[10:].max() < 0.9


@pytest.mark.parametrize("signed", [True, False])
def test_the_matching_is_one_to_one_and_no_other_has_a_larger_sum(signed: bool) -> None:
    from itertools import permutations

    first, second = rows(5, 4), rows(7, 4, seed=3)
    found = all_or_none(first, second, signed=signed)
    cosine = torch.nn.functional.cosine_similarity(first[:, None], second[None], dim=-1)
    similarity = cosine.abs() if signed else cosine
    best = max(sum(similarity[i, j].item() for i, j in enumerate(order)) for order in permutations(range(7), 5))
    assert found.first.tolist() == list(range(5))
    assert len(set(found.second.tolist())) == 5
    assert found.similarity.sum().item() == pytest.approx(best, rel=1e-5)


def test_a_row_of_norm_zero_matches_nothing() -> None:
    dead = rows(6)
    dead[2] = 0
    found = all_or_none(dead, rows(6), signed=True)
    assert found.cosine[2] == 0
    assert found.share_above(0.9) == pytest.approx(5 / 6)


def test_dictionaries_of_other_widths_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"shape \(3, 4\) and \(3, 5\)"):
        all_or_none(rows(3, 4), rows(3, 5), signed=True)
