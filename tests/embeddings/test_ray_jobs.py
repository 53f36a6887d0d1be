"""Parts on a local Ray of two workers: the same rows as in one process, whatever dies on the way."""

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
import torch
from rich.console import Console
from sae_lens import AbsTopKSAE, AbsTopKSAEConfig

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.embeddings import ray_jobs
from sae_lens_abstopk.embeddings.decoding import decode_file
from sae_lens_abstopk.embeddings.encoding import encode_file, encode_work
from sae_lens_abstopk.embeddings.parquet_parts import Work
from sae_lens_abstopk.embeddings.ray_jobs import run_on_ray
from sae_lens_abstopk.vectors.vector_spec import VectorSpec

pytestmark = pytest.mark.slow
N, D_IN = 200, 16


@pytest.fixture(scope="module", autouse=True)
def two_workers() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def parts_of_twenty_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ray_jobs, "PART_ROWS", 20)
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).normal(size=(N, D_IN)).astype(np.float32))
    torch.manual_seed(0)
    sae = AbsTopKSAE(AbsTopKSAEConfig(d_in=D_IN, d_sae=48, k=4))
    torch.nn.init.normal_(sae.W_enc)
    sae.save_model("sae")


DATA = VectorSpec(dataset_path="x.npy")
PARTS = [f"part-{number:05d}-of-00010.parquet" for number in range(1, 11)]


def with_a_death(make: Callable[[], Work], marker: Path) -> Work:
    """Work whose process is killed once, while it computes the rows from 100 on."""
    work = make()

    def compute(block: object, start: int) -> list[object]:
        if start == 100 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return work.make(block, start)

    return Work(work.rows, work.reads, work.keep, work.makes, work.record, compute)


def test_a_killed_worker_costs_no_row_and_parts_that_are_there_are_not_made_again(tmp_path: Path) -> None:
    make = partial(encode_work, "sae", DATA, model_name=None, keep=(), device="cpu")
    marker = tmp_path / "killed"
    killed = partial(with_a_death, make, marker)
    assert run_on_ray("encoding", killed, Path("codes"), n_workers=2, console=Console(quiet=True)).n_made == N
    assert marker.exists()
    assert sorted(path.name for path in Path("codes").iterdir()) == PARTS
    encode_file("sae", DATA, "one-process.parquet")
    found, expected = pq.read_table("codes"), pq.read_table("one-process.parquet")
    assert found["indices"].equals(expected["indices"])
    values = [np.concatenate(table["values"].to_numpy()) for table in (found, expected)]
    np.testing.assert_allclose(*values, rtol=1e-5)

    for name in PARTS[3:6]:
        Path("codes", name).unlink()
    assert encode_file("sae", DATA, "codes", ray_workers=1).n_made == 60
    assert encode_file("sae", DATA, "codes", ray_workers=1).n_made == 0
    assert decode_file("sae", "codes", "vectors.npy").n_rows == N


def test_an_error_in_the_data_is_one_sentence_and_finished_parts_stay() -> None:
    rows = np.load("x.npy")
    rows[130] = np.inf
    np.save("x.npy", rows)
    with pytest.raises(ConfigError, match="NaN or infinite values, first in row 130; remove such rows"):
        encode_file("sae", DATA, "codes", ray_workers=1)
    assert PARTS[6] not in {path.name for path in Path("codes").iterdir()}


def test_a_worker_that_cannot_load_a_model_says_why() -> None:
    driver = os.getpid()

    def make() -> Work:
        if os.getpid() != driver:
            raise ConfigError("model='m' could not be loaded")
        return encode_work("sae", DATA, model_name=None, keep=(), device="cpu")

    with pytest.raises(ConfigError, match="model='m' could not be loaded"):
        run_on_ray("encoding", make, Path("codes"), n_workers=1, console=Console(quiet=True))
