"""Time of training on vectors: a step beside sentence-transformers and SAELens, encoding, and a whole run.

    python -m experiments.speed.vectors_step --out build/bench/vectors_step.json

Steps and encoding alternate in one process, in float32 on random vectors at D = 768, F = 6,144, k = 32, B = 4,096. A
step of sentence-transformers is that of its ``SparseAutoEncoder`` on the losses of its ``CSRReconstructionLoss`` (at k,
4k and of dead latents), with Adam. The whole run is ``train`` from an array of 20,000 x 384 to the saved SAE, F = 384.
Then the peak memory (GB) of one epoch on a million vectors of 768 in float16. Run it on an idle machine.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from sae_lens import AbsTopKSAE, AbsTopKSAEConfig
from sentence_transformers.sparse_encoder.losses.csr import CSRReconstructionLoss
from sentence_transformers.sparse_encoder.modules.sparse_auto_encoder import SparseAutoEncoder

from experiments.speed.recording import ROOT, command, environment, write_record
from experiments.speed.step_time import alternating
from experiments.speed.timed_saes import OURS, Size, make_trainer, take_step
from sae_lens_abstopk import encode_topk, load_config, train

SIZE = Size(768, 6144, 32, 4096)
PEER = "sentence-transformers SparseAutoEncoder"
TIMED = ("sae_lens topk", "sparse_topk", OURS, "batch_abstopk")
ROWS, WIDTH = 20_000, 384
TRAIN_AND_TELL_PEAK = """
import sys
from rich.console import Console
from experiments.speed.peak_memory import resident
from sae_lens_abstopk import load_config, train
train(load_config("vectors", sys.argv[1:]), console=Console(quiet=True))
print(resident("VmHWM"))
"""


def sentence_transformers_step(size: Size, batch: torch.Tensor) -> Callable[[], None]:
    """Return a training step of sentence-transformers' own autoencoder."""
    sae = SparseAutoEncoder(size.d_in, size.d_sae, size.k)
    loss = CSRReconstructionLoss(model=None)  # type: ignore[arg-type]  # the loss from embeddings asks no model
    optimizer = torch.optim.Adam(sae.parameters(), lr=1e-3)

    def step() -> None:
        parts = loss.compute_loss_from_embeddings([sae({"sentence_embedding": batch})])
        optimizer.zero_grad()
        torch.stack(list(parts.values())).sum().backward()
        optimizer.step()

    return step


@torch.no_grad()
def encoding_seconds(repeats: int) -> dict[str, dict[str, float]]:
    """Time codes of a batch: SAELens's dense ``encode``, and ``encode_topk``."""
    sae = AbsTopKSAE(AbsTopKSAEConfig(d_in=SIZE.d_in, d_sae=SIZE.d_sae, k=SIZE.k))
    sae.W_enc.data = torch.randn(SIZE.d_in, SIZE.d_sae) / SIZE.d_in**0.5
    batch = torch.randn(SIZE.tokens, SIZE.d_in)
    return alternating({"dense": lambda: sae.encode(batch), "sparse": lambda: encode_topk(sae, batch)}, repeats)


def run_seconds() -> float:
    """Time ``train`` with the preset ``vectors``, from an array in a file to the saved SAE."""
    with tempfile.TemporaryDirectory() as folder:
        array = Path(folder) / "x.npy"
        np.save(array, np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32))
        started = time.perf_counter()
        train(load_config("vectors", [f"data={array}", f"output_path={folder}/run"]), console=Console(quiet=True))
        return time.perf_counter() - started


def peak_of_a_million() -> dict[str, float]:
    """Train one epoch on a million vectors of 768 in float16, in a process of its own; return its peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        array = np.lib.format.open_memmap(f"{folder}/x.npy", mode="w+", dtype=np.float16, shape=(1_000_000, 768))
        random = np.random.default_rng(0)
        for start in range(0, len(array), 10_000):
            array[start : start + 10_000] = random.normal(size=(10_000, 768))
        array.flush()
        del array
        settings = ["epochs=1", "train_batch_size_tokens=4096", "sae.k=32", f"data={folder}/x.npy"]
        started = time.perf_counter()
        # asked from inside: what the system counts for a child begins with the memory of its parent
        arguments = [sys.executable, "-c", TRAIN_AND_TELL_PEAK, *settings, f"output_path={folder}/run"]
        told = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout
        return {"seconds": time.perf_counter() - started, "peak_gb": int(told) / 1e9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    record = {"command": command(), "environment": environment(), **SIZE._asdict(), "repeats": args.repeats}
    record["environment"] |= {"sentence-transformers": version("sentence-transformers")}
    batch = torch.randn(SIZE.tokens, SIZE.d_in)
    steps = {name: partial(take_step, make_trainer(name, SIZE), batch) for name in TIMED}
    record["step_seconds"] = alternating({PEER: sentence_transformers_step(SIZE, batch), **steps}, args.repeats)
    record["encode_seconds"] = encoding_seconds(args.repeats)
    record["run"] = {"rows": ROWS, "d_in": WIDTH, "seconds": run_seconds()}
    record["million_vectors_of_768"] = peak_of_a_million()
    write_record(record, args.out)


if __name__ == "__main__":
    main()
