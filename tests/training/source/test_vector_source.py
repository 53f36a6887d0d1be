"""Batches of vectors: every row once an epoch, resumed at any batch, shared between ranks."""

from itertools import islice
from pathlib import Path

import pytest
import torch

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.training.checkpoints import training_state
from sae_lens_abstopk.training.checkpoints.training_state import load_stream, save_stream
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


def test_batches_that_were_not_used_come_again() -> None:
    first, second = source(), source()
    batches = islice(first.batches(), 3)
    used, waiting = [next(batches), next(batches)], next(batches)
    second.go_to(first.position()._replace(served=waiting))
    assert torch.equal(torch.cat([*used, *islice(second.batches(), 2)]), read(source(), 4))


def test_a_batch_that_cannot_be_read_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = source()
    read(broken, 2)
    with monkeypatch.context() as patched:
        patched.setattr(Vectors, "rows", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            read(broken, 1)
    assert broken.position().n_blocks == 2


def test_fewer_ranks_go_on_with_the_same_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = source()
    read(first, 4)
    for rank in range(2):
        monkeypatch.setattr(training_state, "this_rank", lambda rank=rank: rank)
        save_stream(tmp_path, first.position())
    position = load_stream(tmp_path, seed=0, blocks_are_shared=True)
    assert position.n_blocks == 4
    assert load_stream(tmp_path, seed=0, blocks_are_shared=False).n_blocks == 8
