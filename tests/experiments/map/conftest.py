"""Made-up vectors of a kind."""

from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.map.kinds import KindVectors, kinds_in, read_kind, write_kind

N, D, K = 3000, 16, 2


@pytest.fixture
def vectors(tmp_path: Path) -> KindVectors:
    """Sparse combinations of the axes with signs, in 60 documents."""
    random = np.random.default_rng(0)
    x = random.normal(size=(N, D)) * (random.random((N, D)) < 0.2) + 0.02 * random.normal(size=(N, D))
    write_kind(tmp_path, "made up", torch.from_numpy(x), torch.arange(N) // 50, "a test")
    assert kinds_in(tmp_path) == ["made up"]
    return read_kind(tmp_path, "made up")[0]
