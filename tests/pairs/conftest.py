"""Axes of a tiny language model, and the browser of the explorer's tests, to open a page of axes with."""

from pathlib import Path

import pytest

from sae_lens_abstopk import PairAxes, read_pairs
from tests.conftest import SENTENCES
from tests.explorer.conftest import browser
from tests.pairs.pair_files import write_rows

__all__ = ["browser"]


@pytest.fixture(scope="session")
def axes(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> PairAxes:
    rows = [
        {
            "prompt": f"What happened on day {i}?",
            "chosen": f"{SENTENCES[i % 4]} {i}",
            "rejected": f"On day {i}, {SENTENCES[(i + 1) % 4].lower()}",
        }
        for i in range(60)
    ]
    path = write_rows(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", rows)
    return PairAxes.fit(read_pairs(path), model=str(tiny_llama), layer=3, d_sae=8, seeds=2, baselines=False)
