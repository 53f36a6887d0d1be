"""Joint firings of latents, and their sides."""

import math

import numpy as np
import pytest
import torch

from sae_lens_abstopk.dictionary.contexts import CodeBatch
from sae_lens_abstopk.explorer.firing_statistics import CofiringSample


def sample_of(codes: torch.Tensor, n_tokens: int = 100) -> CofiringSample:
    """A sample of one batch, all of it unless ``n_tokens`` is fewer."""
    where = torch.stack([torch.zeros(len(codes), dtype=torch.int64), torch.arange(len(codes))], dim=1)
    sample = CofiringSample(codes.shape[1], n_tokens)
    sample.add(CodeBatch(codes, where, torch.zeros(1, len(codes), dtype=torch.int64)), torch.Generator())
    return sample


@pytest.fixture
def every_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Joint firings are counted on all tokens."""
    monkeypatch.setattr("sae_lens_abstopk.explorer.firing_statistics.ONE_IN", 1)


@pytest.mark.usefixtures("every_token")
def test_joint_firings_are_counted_with_their_sides() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.zeros(40, 4)
    codes[:20, 0] = torch.randn(20, generator=generator)
    codes[:20, 1] = -codes[:20, 0]  # always with 0, on the other side
    codes[:10, 2] = codes[:10, 0]  # half of the time, on the same side
    codes[:2, 3] = 1.0  # too seldom to say
    sample = sample_of(codes)
    first, second, third, last = sample.top(3)
    assert [c.latent for c in first] == [1, 2]
    assert first[0].overlap == pytest.approx(1)
    assert first[1].overlap == pytest.approx(10 / math.sqrt(200))
    assert [c.same_side for c in first] == [0, 1]
    assert [c.latent for c in second] == [0, 2]
    assert [c.latent for c in third] == [0, 1]
    assert last == []


def test_joint_firings_are_counted_on_a_share_of_each_batch() -> None:
    where = torch.stack([torch.zeros(20, dtype=torch.int64), torch.arange(20)], dim=1)
    sample, batch = CofiringSample(2, 8), CodeBatch(torch.ones(20, 2), where, torch.zeros(1, 20, dtype=torch.int64))
    for taken in (3, 6, 8, 8):
        sample.add(batch, torch.Generator())
        assert sample.tokens_seen == taken


@pytest.mark.usefixtures("every_token")
def test_joint_firings_are_those_of_all_pairs_at_once_and_ties_go_by_index() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(60, 300, generator=generator).sign() * (torch.rand(60, 300, generator=generator) < 0.3)
    sample = sample_of(codes)
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
