"""Rates of `abstopk embed`, `encode` and `decode` on files, with the bytes of a row and the memory of encoding.

    python -m experiments.speed.vectors_io --model FOLDER --out build/bench/vectors_io.json

Texts are the first 64 words of documents of the quickstart's text, embedded by the sentence-transformers model in
FOLDER (all-MiniLM-L6-v2 in the record). Vectors are random, in float16, with D = 768, and the SAE is an AbsTopK SAE of
6,144 latents with k = 32, beside SAELens's own ``encode`` on the same rows. Run it on an idle machine.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sae_lens import AbsTopKSAE, AbsTopKSAEConfig

from experiments.speed.peak_memory import peak_bytes
from experiments.speed.recording import ROOT, command, environment, write_record
from sae_lens_abstopk.embeddings.decoding import decode_file
from sae_lens_abstopk.embeddings.embedding_files import embed_file
from sae_lens_abstopk.embeddings.encoding import encode_file
from sae_lens_abstopk.text.documents import open_dataset
from sae_lens_abstopk.vectors.vector_spec import VectorSpec
from sae_lens_abstopk.vectors.vectors import open_vectors

TEXT = ROOT / "training_configs" / "text" / "smollm2_samples.jsonl.gz"
WORDS = 64
D_IN, D_SAE, K = 768, 6144, 32


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def embedding(model: Path, n_texts: int, folder: Path) -> dict[str, float]:
    """Time embedding from file to file, the loading of the model included, and without it."""
    rows = [
        " ".join(row["text"].split()[:WORDS]) for row, _ in zip(open_dataset(str(TEXT)), range(n_texts), strict=False)
    ]
    texts = folder / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
    data = VectorSpec(dataset_path=str(texts))
    loading = seconds(lambda: embed_file(str(model), one_text(folder), folder / "one.parquet"))
    took = seconds(lambda: embed_file(str(model), data, folder / "embeddings.parquet"))
    return {
        "texts": len(rows),
        "words": sum(len(text.split()) for text in rows) / len(rows),
        "seconds_of_loading": loading,
        "texts_per_second": len(rows) / (took - loading),
    }


def one_text(folder: Path) -> VectorSpec:
    (folder / "one.jsonl").write_text(json.dumps({"text": "one"}) + "\n")
    return VectorSpec(dataset_path=str(folder / "one.jsonl"))


@torch.no_grad()
def coding(n_rows: int, folder: Path) -> dict[str, float]:
    """Time encoding and decoding from file to file, and SAELens's encode on the same rows."""
    torch.manual_seed(0)
    sae = AbsTopKSAE(AbsTopKSAEConfig(d_in=D_IN, d_sae=D_SAE, k=K))
    sae.W_enc.data = torch.randn(D_IN, D_SAE) / D_IN**0.5
    rows = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float16, (n_rows, D_IN))
    for start in range(0, n_rows, 10_000):
        block = rows[start : start + 10_000]
        block[:] = torch.randn(block.shape).numpy()
    rows.flush()
    data, codes, vectors = VectorSpec(dataset_path=str(folder / "x.npy")), folder / "codes.parquet", folder / "v.npy"
    took: list[float] = []
    peak = peak_bytes(lambda: took.append(seconds(lambda: encode_file(sae, data, codes))))
    decoding = seconds(lambda: decode_file(sae, codes, vectors))
    dense = seconds(lambda: [sae.encode(x) for block in open_vectors(data).blocks() for x in block.split(4096)])
    return {
        "rows": n_rows,
        "encoded_rows_per_second": n_rows / took[0],
        "decoded_rows_per_second": n_rows / decoding,
        "saelens_encoded_rows_per_second": n_rows / dense,
        "bytes_per_row_of_vectors": 2 * D_IN,
        "bytes_per_row_of_codes": codes.stat().st_size / n_rows,
        "peak_bytes_of_encoding": peak,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of a sentence-transformers model")
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    record: dict[str, Any] = {"command": command(), "environment": environment(), "model": args.model.name}
    with tempfile.TemporaryDirectory() as folder:
        record["encoding"] = {"d_in": D_IN, "d_sae": D_SAE, "k": K, **coding(args.rows, Path(folder))}
        record["embedding"] = embedding(args.model, args.texts, Path(folder))
    write_record(record, args.out)


if __name__ == "__main__":
    main()
