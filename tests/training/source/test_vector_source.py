"""Batches of vectors: every row once an epoch, resumed at any batch, shared between ranks."""

from itertools import islice

import pytest
import torch

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.training.source import vector_source
from sae_lens_abstopk.training.source.vector_source import VectorSource
from sae_lens_abstopk.vectors.vectors import Vectors

VECTORS = Vectors.of_array(torch.arange(40.0).view(20, 2))


def source(seed: int = 0, rows: int = 20, batch_size: int = 6) -> VectorSource:
    return VectorSource(VECTORS, torch.arange(rows), batch_size=batch_size, seed=seed, recorded={"data": "x"})


def read(batches: VectorSource, n: int) -> torch.Tensor:
    return torch.cat([torch.empty(0, 2), *islice(batches.batches(), n)])


def test_every_row_comes_once_an_epoch_in_an_order_of_its_own() -> None:
    read_rows = read(source(), 20)[:, 0].view(6, 20)
    assert all(torch.equal(epoch.sort().values, torch.arange(0.0, 40.0, 2)) for epoch in read_rows)
    assert len({tuple(epoch.tolist()) for epoch in read_rows}) == 6
    assert not torch.equal(read(source(seed=1), 3), read(source(), 3))


@pytest.mark.parametrize("n_read", [0, 3, 4, 11])
def test_a_new_source_goes_on_at_any_position(n_read: int) -> None:
    whole, first, second = source(), source(), source()
    read(first, n_read)
    second.go_to(first.position())
    assert torch.equal(read(second, 5), read(whole, n_read + 5)[n_read * 6 :])


def test_ranks_share_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read(source(), 5).view(5, 2, 3, 2)
    monkeypatch.setattr(vector_source, "n_ranks", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr(vector_source, "this_rank", lambda rank=rank: rank)
        assert torch.equal(read(source(), 5).view(5, 3, 2), whole[:, rank])


def test_fewer_rows_than_a_batch_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"rows to train on=5 must be at least 6 \(train_batch_size_tokens\)"):
        source(rows=5)
