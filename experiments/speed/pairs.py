"""Time and memory of `PairAxes.fit` on vectors, and the speed of reading texts beside a plain loop.

    python -m experiments.speed.pairs fit --out build/bench/pairs_fit.json
    python -m experiments.speed.pairs memory --out build/bench/pairs_memory.json
    python -m experiments.speed.pairs reading --model FOLDER --data pairs.jsonl.gz --out build/bench/pairs_reading.json

`fit`: 20,000 pairs of vectors of 576, F = 32, five seeds, one-sided SAEs included. `memory`: peak of a million pairs
of 768 in float16, memory-mapped, with one seed. `reading`: the answers of the first 500 pairs of a file at layer 15,
beside a plain loop over transformers, in turn. Run it on an idle machine.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.recording import arguments, command, environment, write_record
from experiments.speed.peak_memory import peak_bytes
from experiments.speed.reading import measure_reading
from sae_lens_abstopk.pairs.axes import PairAxes
from sae_lens_abstopk.pairs.pair_set import pairs_of_rows

PLANTED = 64


def arrays(folder: Path, n: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Write two float16 files of vectors with planted sparse directions, and map them."""
    generator = np.random.default_rng(0)
    directions = generator.normal(size=(PLANTED, width)) / width**0.5
    made = []
    for side in "AB":
        path = folder / f"{side}.npy"
        rows = np.lib.format.open_memmap(path, "w+", np.float16, (n, width))
        for start in range(0, n, 20_000):
            size = min(20_000, n - start)
            codes = generator.normal(size=(size, PLANTED)) * (generator.random((size, PLANTED)) < 0.1)
            rows[start : start + size] = codes @ directions * width**0.5 + 0.3 * generator.normal(size=(size, width))
        rows.flush()
        made.append(np.load(path, mmap_mode="r"))
    return made[0], made[1]


def fit_time(args: argparse.Namespace) -> dict[str, Any]:
    """Time a whole fit."""
    with tempfile.TemporaryDirectory() as folder:
        both = arrays(Path(folder), args.pairs or 20_000, 576)
        start = time.perf_counter()
        found = PairAxes.fit(pairs_of_rows(len(both[0])), arrays=both)
        return {
            "seconds": time.perf_counter() - start,
            "fvu": found.results.signed.fvu.value,
            "training": found.results.training,
        }


def memory(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the peak memory of a fit."""
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        both = arrays(Path(folder), args.pairs or 1_000_000, 768)
        start = time.perf_counter()
        peak = peak_bytes(lambda: PairAxes.fit(pairs_of_rows(len(both[0])), arrays=both, seeds=1))
        return {"bytes": peak, "seconds": time.perf_counter() - start}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure one of the three."""
    parser = arguments(__doc__)
    parser.add_argument("what", choices=["fit", "memory", "reading"])
    parser.add_argument("--pairs", type=int, help="number of pairs or texts")
    parser.add_argument("--model", help="folder of the language model, for reading")
    parser.add_argument("--data", help="pairs of texts, for reading")
    parser.add_argument("--folder", help="of temporary files")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    machine = environment()
    found = {"fit": fit_time, "memory": memory, "reading": measure_reading}[args.what](args)
    write_record({"command": command(), "environment": machine, args.what: found}, args.out)


if __name__ == "__main__":
    main()
