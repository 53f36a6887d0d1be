"""
Train the SAE of *What's In My Human Feedback?* (arXiv 2510.26202) beside ours on the same differences.

    git clone https://github.com/rmovva/wimhf
    python -m experiments.pairs.peer pairs.jsonl --model HuggingFaceTB/SmolLM2-135M-Instruct --layer 15 \
        --sae wimhf/wimhf/sae.py

Theirs has the defaults of its pipeline: F = 32 and k = 4 with the prefixes 8 and 32, batches of 256, 50 epochs on x and
-x, Adam at 5e-4, and early stopping on the held-out pairs, which favours it. The two are trained in turn, one SAE each
time. Writes `results/peer.json`: held-out FVU over x and -x, L0, and seconds, of each seed.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from rich.console import Console
from torch import Tensor

from experiments.pairs.study import RESULTS, differences_of
from experiments.speed.recording import command
from sae_lens_abstopk.evaluation.results.facts import origin_facts
from sae_lens_abstopk.pairs import fitting
from sae_lens_abstopk.pairs.reading import read_pairs
from sae_lens_abstopk.pairs.split import components, held_out_rows
from sae_lens_abstopk.system.files import without_path
from sae_lens_abstopk.vectors.differences import Differences

SIZES: dict[str, Any] = {"d_sae": 32, "k": 4}
THEIRS: dict[str, Any] = {"batch_size": 256, "n_epochs": 50, "min_epochs": 10, "patience": 3, "learning_rate": 5e-4}
"""`SAEConfig` of their `quickstart.py`; its threshold of dead neurons, 64 steps, is given to the class."""


def module_of(path: Path) -> ModuleType:
    """Import their `sae.py` without the rest of their package."""
    spec = importlib.util.spec_from_file_location("wimhf_sae", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Reconstruct = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Takes vectors [n, d_in]; returns reconstructions [n, d_in] and codes [n, F]."""


def train_theirs(module: ModuleType, x: Tensor, held_out: Tensor, seed: int) -> Reconstruct:
    """Train their SAE on x and -x."""
    torch.manual_seed(seed)
    sae = module.SparseAutoencoder(
        x.shape[1], SIZES["d_sae"], SIZES["k"], prefix_lengths=[8, SIZES["d_sae"]], dead_neuron_threshold_steps=64
    )
    sae.fit(torch.cat([x, -x]), held_out, show_progress=False, **THEIRS)
    sae.eval()

    def reconstruct(vectors: Tensor) -> tuple[Tensor, Tensor]:
        found, info = sae(vectors)
        return found, info["activations"]

    return reconstruct


def train_ours(differences: Differences, seed: int) -> Reconstruct:
    """Train one signed SAE with the preset `pairs`."""
    with tempfile.TemporaryDirectory() as folder:
        alone: dict[str, Any] = {"n_seeds": 1, "baselines": False, "seed": seed, "device": "cpu"}
        cfg = fitting.config_of(differences, Path(folder) / "run", **SIZES, **alone)
        (sae,) = fitting.train_axes(cfg, differences, console=Console(quiet=True))["signed"]

    def reconstruct(vectors: Tensor) -> tuple[Tensor, Tensor]:
        codes = sae.encode(vectors)
        return sae.decode(codes), codes

    return reconstruct


@torch.no_grad()
def score(reconstruct: Reconstruct, x: Float[Tensor, "n d_in"]) -> dict[str, float]:
    """Measure FVU and L0 on x and -x."""
    both = torch.cat([x, -x])
    found, codes = reconstruct(both)
    fvu = (found - both).square().sum() / both.square().sum()
    return {"fvu": fvu.item(), "l0": (codes != 0).sum(1).float().mean().item()}


def main(argv: Sequence[str] | None = None) -> None:
    """Train both in turn, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="pairs, as for `abstopk pairs`")
    parser.add_argument("--model", required=True)
    parser.add_argument("--layer", type=int)
    parser.add_argument("--max-tokens", type=int, default=1024)
    parser.add_argument("--unit", action="store_true")
    parser.add_argument("--sae", type=Path, required=True, help="their sae.py")
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args(argv)
    module = module_of(args.sae)
    pairs = read_pairs(args.data)
    test = held_out_rows(components(pairs))
    differences = differences_of(pairs, args, test)
    x = torch.cat(list(differences.blocks())).float()
    train, held_out = x[~differences.held_out], x[differences.held_out]
    runs: list[dict[str, Any]] = []
    for seed in range(args.seeds):
        for name in ("ours", "theirs"):
            start = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                trained = (
                    train_ours(differences, seed) if name == "ours" else train_theirs(module, train, held_out, seed)
                )
            seconds = time.perf_counter() - start
            runs.append({"sae": name, "seed": seed, "seconds": seconds, **score(trained, held_out)})
            print(runs[-1], flush=True)
    record = {
        **origin_facts("cpu"),
        "command": command(),
        "data": without_path(args.data),
        "model": without_path(args.model),
        "max_tokens": args.max_tokens,
        "n_train": len(train),
        "n_held_out": len(held_out),
        "theirs": "https://github.com/rmovva/wimhf",
        "runs": runs,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "peer.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
