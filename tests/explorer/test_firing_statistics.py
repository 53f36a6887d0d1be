"""Histograms whose range grows with the codes, and joint firings of latents."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sae_lens_abstopk.explorer.firing_statistics import CofiringSample, GrowingHistograms, LogHistograms
from sae_lens_abstopk.model.contexts import CodeBatch


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=60), st.integers(1, 60))
def test_a_histogram_that_grew_counts_like_one_that_knew(strengths: list[float], cut: int) -> None:
    values = torch.tensor(strengths)
    grown = GrowingHistograms(2, bins=8)
    for part in (values[:cut], values[cut:]):
        grown.add(torch.zeros(len(part), dtype=torch.int64), torch.ones(len(part), dtype=torch.int64), part)
    limit = float(grown.limit[1])
    assert float(values.max()) <= limit
    index = (values * (8 / limit)).long().clamp(max=7)
    assert grown.counts[0, 1].tolist() == torch.bincount(index, minlength=8).tolist()
    assert grown.counts[:, 0].sum() == grown.counts[1].sum() == 0


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=60), st.integers(1, 60))
def test_quantiles_are_within_a_bin_whatever_the_largest_code_is(strengths: list[float], cut: int) -> None:
    values = torch.tensor(strengths)
    grown, known = LogHistograms(2), LogHistograms(2)
    one, poles = torch.ones(len(values), dtype=torch.int64), torch.arange(len(values)) % 2
    known.add(poles, one, values)
    for part in (slice(cut), slice(cut, None)):
        grown.add(poles[part], one[part], values[part])
    assert torch.equal(grown.counts, known.counts)
    assert torch.equal(grown.largest, known.largest)
    assert int(grown.counts[:, 1].sum()) == len(values)
    lowest = float(values.max()) / 2**8.9  # the lowest bin takes all below it
    for q in (0.1, 0.5, 0.99):
        exact = float(values.sort().values[math.ceil(q * len(values) - 1e-9) - 1])  # the least with a share q up to it
        found = float(grown.quantile(q)[1])
        assert found == pytest.approx(exact, rel=0.045) or max(found, exact) <= lowest
    assert float(grown.quantile(1.0)[1]) <= float(values.max())
    assert float(grown.quantile(0.99)[0]) == 0.0, "never fired"
    own = values[poles == 0]
    middle = float(own.median())
    if middle > lowest:
        near = float(((own / middle).log2().abs() < 1 / 16).float().mean())
        assert abs(grown.share_below(0, 1, middle) - float((own < middle).float().mean())) <= near + 1e-6
    assert math.isnan(grown.share_below(1, 0, 1.0))


def test_one_very_large_code_leaves_the_scale_of_the_others() -> None:
    strengths = torch.cat([torch.linspace(1, 5, 999), torch.tensor([200.0])])
    nothing = torch.zeros(1000, dtype=torch.int64)
    found = LogHistograms(1)
    found.add(nothing, nothing, strengths)
    assert float(found.quantile(0.99)) == pytest.approx(4.96, rel=0.045)
    assert found.share_below(0, 0, 3.0) == pytest.approx(0.5, abs=0.03)


def batch_of(codes: torch.Tensor) -> CodeBatch:
    where = torch.stack([torch.zeros(len(codes), dtype=torch.int64), torch.arange(len(codes))], dim=1)
    return CodeBatch(codes, where, torch.zeros(1, len(codes), dtype=torch.int64))


def test_joint_firings_are_counted_on_a_share_of_each_batch() -> None:
    sample = CofiringSample(2, 8, one_in=8)
    for taken in (3, 6, 8, 8):
        sample.add(batch_of(torch.ones(20, 2)), torch.Generator())
        assert sample.tokens_seen == taken


def test_joint_firings_are_those_of_all_pairs_at_once_and_ties_go_by_index() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(60, 300, generator=generator).sign() * (torch.rand(60, 300, generator=generator) < 0.3)
    sample = CofiringSample(300, 100, one_in=1)
    sample.add(batch_of(codes), torch.Generator())
    on, signs = codes.abs().numpy(), codes.numpy()
    together, agreement = on.T @ on, signs.T @ signs
    overlap = together / np.sqrt(np.outer(together.diagonal(), together.diagonal()))
    overlap[together < 5] = 0
    np.fill_diagonal(overlap, 0)
    best = np.argsort(-overlap, axis=1, kind="stable")[:, :4]
    for latent, (row, others) in enumerate(zip(sample.top(4), best, strict=True)):
        same_side = (1 + agreement[latent, others] / together[latent, others]) / 2
        expected = zip(others.tolist(), overlap[latent, others].tolist(), same_side.tolist(), strict=True)
        assert row == list(expected)
