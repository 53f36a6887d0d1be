"""
Search a million synthetic codes: peak memory and queries per second, on Linux.

Each document and each query has ``k`` latents drawn without preference, each with a random sign. Real codes share more
latents, which costs time, not memory.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from experiments.speed.peak_memory import peak_bytes
from experiments.speed.recording import command, environment, write_record
from sae_lens_abstopk.embeddings.code_rows import StoredCodes
from sae_lens_abstopk.embeddings.search import DOCUMENTS, QUERIES, TOP, rank


def random_codes(n: int, *, d_sae: int, k: int, generator: np.random.Generator) -> csr_array:
    """Return codes [n, d_sae] with k entries a row."""
    # one latent of each of k ranges of equal width, so that none is drawn twice
    width = d_sae // k
    latents = generator.integers(0, width, (n, k), dtype=np.int32) + np.arange(k, dtype=np.int32) * width
    values = generator.standard_normal((n, k), dtype=np.float32)
    return csr_array((values.ravel(), latents.ravel(), np.arange(n + 1, dtype=np.int64) * k), shape=(n, d_sae))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--latents", type=int, default=4_096)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    started_on = environment()
    generator = np.random.default_rng(0)
    shape = {"d_sae": options.latents, "k": options.k, "generator": generator}
    queries = random_codes(options.queries, **shape)
    seconds = {}

    def store_and_search() -> None:
        started = time.perf_counter()
        blocks = (random_codes(len(rows), **shape) for rows in np.array_split(range(options.documents), 64))
        stored = StoredCodes.of(blocks, signed=True)
        seconds["store"] = time.perf_counter() - started
        started = time.perf_counter()
        rank(queries, stored.blocks)
        seconds["search"] = time.perf_counter() - started

    peak = peak_bytes(store_and_search)
    write_record(
        {
            "command": command(),
            "environment": started_on,
            "documents": options.documents,
            "queries": options.queries,
            "d_sae": options.latents,
            "k": options.k,
            "block": {"queries": QUERIES, "documents": DOCUMENTS, "top": TOP},
            "peak_mib": round(peak / 2**20),
            "store_seconds": round(seconds["store"], 2),
            "search_seconds": round(seconds["search"], 2),
            "queries_per_second": round(options.queries / seconds["search"], 1),
        },
        options.out,
    )


if __name__ == "__main__":
    main()
