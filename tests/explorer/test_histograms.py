"""Histograms whose range grows with the codes."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sae_lens_abstopk.explorer.firing_statistics import GrowingHistograms, LogHistograms


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


def test_codes_below_the_smallest_normal_number_are_counted() -> None:
    histograms = GrowingHistograms(2)
    histograms.add(torch.tensor([0]), torch.tensor([1]), torch.tensor([1e-39]))
    assert histograms.counts.sum() == 1
