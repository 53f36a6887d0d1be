"""Time and memory of a training step and of inference: ours against SAELens's and others'.

    python benchmarks/step_time.py --peers .venv-peers/bin/python --out benchmarks/results/step_time.json

For each size (D, F, K, B) and SAE, in float32 on random tokens:

- whole steps (forward, backward, clipping, Adam), alternating in one process on the same inputs, and the encoder product
  of that size alone as the floor;
- at the first size, the same steps with each SAE in a process of its own, in turn, and with ``--peers`` those of
  eai-sparsify and dictionary-learning in their environment;
- encode and decode without gradients, alternating;
- the peak memory of a step above parameters, gradients and optimiser state, each in a fresh process.

``--curves`` varies F, K and B around the first size instead, and ``--profile`` says where our step at the largest size
spends its time. Run it on an idle machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from recording import environment, write_record
from sae_lens import AbsTopKSAE, AbsTopKSAEConfig, SAETrainer, TopKTrainingSAE, TopKTrainingSAEConfig, TrainingSAE
from sae_lens import (
    AbsTopKTrainingSAE as SAELensAbsTopKTrainingSAE,
)
from sae_lens import (
    AbsTopKTrainingSAEConfig as SAELensAbsTopKTrainingSAEConfig,
)
from sae_lens.config import SAETrainerConfig

from sae_lens_abstopk import (
    AbsTopKTrainingSAE,
    AbsTopKTrainingSAEConfig,
    BatchAbsTopKTrainingSAE,
    BatchAbsTopKTrainingSAEConfig,
    decode_topk,
    encode_topk,
)
from sae_lens_abstopk.saes import SparseTopKTrainingSAE, SparseTopKTrainingSAEConfig
from sae_lens_abstopk.training.trainers import use_fused_adam

Size = tuple[int, int, int, int]
SIZES: list[Size] = [(576, 9216, 57, 4096), (768, 24576, 76, 4096), (2304, 36864, 230, 4096)]
CURVES: dict[str, list[Size]] = {
    "d_sae": [(576, f, 57, 4096) for f in (2304, 4608, 9216, 18432)],
    "k": [(576, 9216, k, 4096) for k in (14, 29, 57, 115)],
    "tokens": [(576, 9216, 57, b) for b in (1024, 2048, 4096, 8192)],
}
SAELENS, OURS = "sae_lens abstopk", "abstopk"
PEERS = ("sparsify", "dictionary_learning")
WARM_UP = 1


class Shape(NamedTuple):
    """Sizes by name."""

    d_in: int
    d_sae: int
    k: int
    tokens: int


def saes() -> dict[str, Callable[[int, int, int], TrainingSAE[Any]]]:
    return {
        "sae_lens abstopk": lambda d, f, k: SAELensAbsTopKTrainingSAE(
            SAELensAbsTopKTrainingSAEConfig(d_in=d, d_sae=f, k=k)
        ),
        "sae_lens topk": lambda d, f, k: TopKTrainingSAE(TopKTrainingSAEConfig(d_in=d, d_sae=f, k=k)),
        "sparse_topk": lambda d, f, k: SparseTopKTrainingSAE(SparseTopKTrainingSAEConfig(d_in=d, d_sae=f, k=k)),
        "abstopk": lambda d, f, k: AbsTopKTrainingSAE(AbsTopKTrainingSAEConfig(d_in=d, d_sae=f, k=k)),
        "batch_abstopk": lambda d, f, k: BatchAbsTopKTrainingSAE(BatchAbsTopKTrainingSAEConfig(d_in=d, d_sae=f, k=k)),
    }


def make_trainer(name: str, size: Size) -> SAETrainer[Any, Any]:
    d, f, k, b = size
    torch.manual_seed(0)
    cfg = SAETrainerConfig(total_training_samples=b, train_batch_size_samples=b, lr=1e-3, lr_end=1e-3)
    trainer = SAETrainer(cfg=cfg, sae=saes()[name](d, f, k), data_provider=iter(()))
    return trainer if name.startswith("sae_lens") else use_fused_adam(trainer)


def take_step(trainer: SAETrainer[Any, Any], batch: torch.Tensor) -> None:
    trainer.step(batch)
    trainer.n_training_steps += 1


def alternating(steps: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, dict[str, float]]:
    """Median, least and most seconds of each step, taken in turn."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(WARM_UP + repeats):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if i >= WARM_UP:
                taken[name].append(time.perf_counter() - started)
    return {
        name: {"median": statistics.median(values), "least": min(values), "most": max(values)}
        for name, values in taken.items()
    }


def step_times(size: Size, repeats: int, names: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
    """Seconds of a training step of each SAE, and of the encoder product."""
    d, f, _, b = size
    batch, weights = torch.randn(b, d), torch.randn(f, d)
    steps: dict[str, Callable[[], object]] = {"float32 encoder product": lambda: batch @ weights.T}
    for name in names or list(saes()):
        trainer = make_trainer(name, size)
        steps[name] = lambda trainer=trainer: take_step(trainer, batch)
    return alternating(steps, repeats)


@torch.no_grad()
def inference_times(size: Size, repeats: int) -> dict[str, dict[str, float]]:
    """Seconds of encode and decode: SAELens's on its own ``abstopk``, and ``encode_topk``, ``decode_topk`` on the same SAE."""
    d, f, k, b = size
    sae, batch = AbsTopKSAE(AbsTopKSAEConfig(d_in=d, d_sae=f, k=k)), torch.randn(b, d)
    sae.W_enc.data = torch.randn(f, d).T / d**0.5
    steps = {
        SAELENS: lambda: sae.decode(sae.encode(batch)),
        OURS: lambda: decode_topk(sae, encode_topk(sae, batch)),
    }
    return alternating(steps, repeats)


def times_alone(size: Size, repeats: int, peers: Path | None) -> dict[str, list[float]]:
    """Median seconds of a step of each SAE in a fresh process that holds nothing else, in two rounds."""
    names = [*saes(), *(PEERS if peers else ())]
    taken: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(2):
        for name in names:
            if name in PEERS:
                command = [str(peers), str(Path(__file__).with_name("peer_step.py")), name, *map(str, size)]
                command += ["--repeats", str(repeats)]
                environment = os.environ | {"SPARSIFY_DISABLE_TRITON": "1"}  # its kernels need a GPU
                output = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
                taken[name].append(float(output.split()[-1]))
            else:
                taken[name].append(float(in_fresh_process("--time-of", name, size, repeats)))
    return taken


def median_time(name: str, size: Size, repeats: int) -> float:
    """Median seconds of a step, measured in this process."""
    trainer, batch = make_trainer(name, size), torch.randn(size[3], size[0])
    return alternating({name: lambda: take_step(trainer, batch)}, repeats)[name]["median"]


def profile(size: Size) -> dict[str, float]:
    """Seconds of one ``abstopk`` step by operation, the ten that take most."""
    trainer, batch = make_trainer(OURS, size), torch.randn(size[3], size[0])
    take_step(trainer, batch)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        take_step(trainer, batch)
    by_time = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
    return {event.key: event.self_cpu_time_total / 1e6 for event in by_time[:10]}


def in_fresh_process(flag: str, name: str, size: Size, repeats: int = 1) -> str:
    """What this script prints for one SAE at one size."""
    command = [sys.executable, __file__, flag, name, *map(str, size), "--repeats", str(repeats)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]


def peak_memory(name: str, size: Size) -> int:
    """Bytes that a step needs at its peak above parameters, gradients and optimiser state; one process measures once."""
    trainer = make_trainer(name, size)
    take_step(trainer, torch.randn(8, size[0]))  # parameters, gradients and optimiser state are there after this
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts again from what is in use
    before = resident("VmRSS")
    take_step(trainer, torch.randn(size[3], size[0]))
    return resident("VmHWM") - before


def resident(field: str) -> int:
    """Resident bytes of this process: ``VmRSS`` now, ``VmHWM`` at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024


def measure(size: Size, repeats: int, peers: Path | None) -> dict[str, Any]:
    """Everything about one size; at the largest, a step of SAELens's takes most of a minute, and TopK is left out."""
    names = [name for name in saes() if size != SIZES[-1] or "topk" not in name.replace("abstopk", "")]
    seconds = step_times(size, repeats, names)
    found: dict[str, Any] = {
        "d_in": size[0],
        "d_sae": size[1],
        "k": size[2],
        "tokens": size[3],
        "seconds": seconds,
        "sae_lens_abstopk_over": {n: seconds[SAELENS]["median"] / value["median"] for n, value in seconds.items()},
        "seconds_alone": times_alone(size, repeats, peers) if size == SIZES[0] else {},
        "seconds_of_inference": inference_times(size, repeats),
        "peak_bytes": {name: int(in_fresh_process("--memory-of", name, size)) for name in names},
    }
    print(json.dumps(found, indent=1), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=5, help="at the first size; the others take fewer")
    parser.add_argument("--peers", type=Path, help="Python of an environment with eai-sparsify and dictionary-learning")
    parser.add_argument("--curves", action="store_true", help="vary F, K and B")
    parser.add_argument("--profile", action="store_true", help="profile our step at the largest size")
    parser.add_argument("--memory-of", nargs=5, help="internal: measure memory of one SAE at one size and print it")
    parser.add_argument("--time-of", nargs=5, help="internal: time one SAE at one size and print it")
    args = parser.parse_args()
    if args.memory_of or args.time_of:
        name, *numbers = args.memory_of or args.time_of
        size: Size = tuple(map(int, numbers))  # type: ignore[assignment]
        print(peak_memory(name, size) if args.memory_of else median_time(name, size, args.repeats))
        return
    record: dict[str, Any] = {
        "command": "python benchmarks/step_time.py"
        + (" --curves" if args.curves else " --profile" if args.profile else "")
        + (f" --peers {args.peers}" if args.peers else ""),
        "environment": environment(),
    }
    if args.curves:
        record["curves"] = {
            varied: [{varied: getattr(Shape(*size), varied), **step_times(size, 3, [SAELENS, OURS])} for size in sizes]
            for varied, sizes in CURVES.items()
        }
        print(json.dumps(record["curves"], indent=1))
    elif args.profile:
        record["seconds_by_operation"] = profile(SIZES[-1])
        print(json.dumps(record, indent=1))
    else:
        repeats = [args.repeats, max(2, args.repeats // 2), 2]
        record["sizes"] = [measure(size, n, args.peers) for size, n in zip(SIZES, repeats, strict=True)]
    write_record(record, args.out)


if __name__ == "__main__":
    main()
