"""Antipodal pairs and nearest rows against dense references; dictionaries that are permutations of each other."""

from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sae_lens_abstopk import SignedJumpReLUSAE, SignedJumpReLUSAEConfig
from sae_lens_abstopk.saes import geometry
from sae_lens_abstopk.saes.geometry import (
    DictionaryMatch,
    antipodal_pairs,
    match_dictionaries,
    match_saes,
    nearest_decoders,
)


def dictionary(n: int, d: int, seed: int = 0) -> torch.Tensor:
    """Rows of all lengths in few dimensions, so that many pairs are opposed."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(n, d, generator=generator)
    return rows * torch.logspace(-3, 3, n)[:, None]


def dense_cosines(rows: torch.Tensor) -> torch.Tensor:
    unit = torch.nn.functional.normalize(rows.double(), dim=1)
    return unit @ unit.T


@given(
    st.integers(1, 60), st.integers(2, 5), st.sampled_from([-0.95, -0.7, -0.1]), st.integers(1, 70), st.integers(1, 400)
)
def test_antipodal_pairs_are_those_of_the_dense_matrix(
    n: int, d: int, threshold: float, block_rows: int, entries: int
) -> None:
    rows = dictionary(n, d)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geometry, "BLOCK_ENTRIES", entries)
        patch.setattr(geometry, "BLOCK_ROWS", block_rows)
        found = antipodal_pairs(rows, threshold=threshold)
    dense = dense_cosines(rows)
    i, j = torch.triu_indices(n, n, 1)
    expected = {(a, b) for a, b in zip(i.tolist(), j.tolist(), strict=True) if dense[a, b] < threshold}
    assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == expected
    assert len(found.first) == found.total == len(expected)
    assert found.latents == len({latent for pair in expected for latent in pair})
    torch.testing.assert_close(found.cosine, dense[found.first, found.second])
    assert bool((found.cosine.diff() >= 0).all())


def test_pairs_within_rounding_of_the_threshold_are_settled_in_double_precision() -> None:
    # float32 cannot tell these cosines from the threshold; the rows themselves hold the difference
    angles = torch.arccos(torch.tensor(-0.7, dtype=torch.float64)) + torch.linspace(-1e-9, 1e-9, 10).double()
    rows = torch.cat([torch.tensor([[1.0, 0.0]]).double(), torch.stack([angles.cos(), angles.sin()], dim=1)])
    found = antipodal_pairs(rows)
    assert found.second.tolist() == list(range(10, 5, -1))
    assert found.first.tolist() == [0] * 5


def test_the_most_opposed_pairs_are_kept_and_all_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = dictionary(50, 3)
    everything = antipodal_pairs(rows)
    monkeypatch.setattr(geometry, "LISTED", 20)
    monkeypatch.setattr(geometry, "BLOCK_ROWS", 7)
    cut = antipodal_pairs(rows)
    assert (len(cut.first), cut.total) == (20, everything.total)
    assert torch.equal(cut.cosine, everything.cosine[:20])
    assert torch.equal(cut.first, everything.first[:20])


def test_opposed_copies_are_found_whatever_their_length_and_precision() -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        rows = torch.randn(40, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
        rows[31] = -rows[4] * 2**-30
        rows[8] = -rows[27] * 2**30
        found = antipodal_pairs(rows)
        assert {(4, 31), (8, 27)} == set(zip(found.first.tolist(), found.second.tolist(), strict=True))
        torch.testing.assert_close(found.cosine, torch.tensor([-1.0, -1.0]).double())


def test_rows_of_norm_zero_have_no_direction() -> None:
    rows = dictionary(12, 2)
    rows[[0, 5]] = 0
    pairs = antipodal_pairs(rows, threshold=-1e-6)
    assert not {0, 5} & set(torch.cat([pairs.first, pairs.second]).tolist())
    near = nearest_decoders(rows, 9)
    for index, cosine in ((near.nearest, near.nearest_cosine), (near.opposed, near.opposed_cosine)):
        assert bool((index[[0, 5]] == -1).all())
        assert bool(cosine[[0, 5]].isnan().all())
        live = [i for i in range(12) if i not in (0, 5)]
        assert all(sorted(index[i].tolist()) == [j for j in live if j != i] for i in live)


@given(st.integers(3, 40), st.integers(1, 4))
def test_nearest_rows_are_those_of_the_dense_matrix(n: int, k: int) -> None:
    k = min(k, n - 1)
    rows = dictionary(n, 6)
    dense = dense_cosines(rows).float()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geometry, "BLOCK_ENTRIES", 3 * n)
        found = nearest_decoders(rows, k)
    eye = torch.eye(n, dtype=torch.bool)
    torch.testing.assert_close(found.nearest_cosine, dense.masked_fill(eye, -2).topk(k).values)
    torch.testing.assert_close(found.opposed_cosine, dense.masked_fill(eye, 2).topk(k, largest=False).values)
    torch.testing.assert_close(dense.gather(1, found.nearest), found.nearest_cosine)
    torch.testing.assert_close(dense.gather(1, found.opposed), found.opposed_cosine)


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
    first, second = rows(5, 4), rows(7, 4, seed=3)
    found = all_or_none(first, second, signed=signed)
    cosine = torch.nn.functional.cosine_similarity(first[:, None], second[None], dim=-1)
    similarity = cosine.abs() if signed else cosine
    best = max(sum(similarity[i, j].item() for i, j in enumerate(order)) for order in permutations(range(7), 5))
    assert found.first.tolist() == list(range(5))
    assert len(set(found.second.tolist())) == 5
    assert found.similarity.sum().item() == pytest.approx(best, rel=1e-5)
