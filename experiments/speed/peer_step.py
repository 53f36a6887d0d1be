"""Print the median seconds of a training step of another library as JSON.

    .venv-peers/bin/python experiments/speed/peer_step.py sparsify 576 9216 57 4096

``step_time.py`` runs it by path, in the environment of that library. A step is that of the library's own trainer, with
Adam in place of sparsify's default signum; float32, random tokens. Both are TopK: neither library trains signed codes.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

import torch

PACKAGES = {"sparsify": "eai-sparsify", "dictionary_learning": "dictionary-learning"}


def sparsify_step(d_in: int, d_sae: int, k: int, batch: torch.Tensor) -> Callable[[], object]:
    from sparsify import SparseCoder, SparseCoderConfig  # pyright: ignore[reportMissingImports]

    sae = SparseCoder(d_in, SparseCoderConfig(num_latents=d_sae, k=k))
    optimizer = torch.optim.Adam(sae.parameters(), lr=1e-3)

    def step() -> None:
        out = sae(batch)
        (out.fvu + out.auxk_loss).backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()
        sae.set_decoder_norm_to_unit_norm()

    return step


def dictionary_learning_step(d_in: int, d_sae: int, k: int, batch: torch.Tensor) -> Callable[[], object]:
    from dictionary_learning.trainers.top_k import TopKTrainer  # pyright: ignore[reportMissingImports]

    trainer = TopKTrainer(
        steps=1000,
        activation_dim=d_in,
        dict_size=d_sae,
        k=k,
        layer=0,
        lm_name="none",
        lr=1e-3,
        warmup_steps=0,
        device="cpu",
    )
    return lambda: trainer.update(1, batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", choices=list(PACKAGES))
    parser.add_argument("size", nargs=4, type=int, metavar=("D", "F", "K", "B"))
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    d_in, d_sae, k, n_tokens = args.size
    torch.manual_seed(0)
    make = {"sparsify": sparsify_step, "dictionary_learning": dictionary_learning_step}[args.library]
    step = make(d_in, d_sae, k, torch.randn(n_tokens, d_in))
    taken = []
    for i in range(2 + args.repeats):
        started = time.perf_counter()
        step()
        if i >= 2:
            taken.append(time.perf_counter() - started)
    versions = {package: version(package) for package in (PACKAGES[args.library], "torch")}
    print(json.dumps({"seconds": statistics.median(taken), **versions, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
