"""Time and memory of one training step: ours against SAELens's, alternating on the same inputs.

    python benchmarks/step_time.py --out benchmarks/results/step_time.json

For each size (D, F, K, B) and SAE, the median and range of ``--repeats`` whole steps (forward, backward, clipping, Adam)
in float32, the encoder product of that size alone as the floor, and, each in a fresh process, the peak memory above
parameters, gradients and optimiser state. Run it on an idle machine.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from sae_lens import (
    AbsTopKTrainingSAE as SAELensAbsTopKTrainingSAE,
)
from sae_lens import (
    AbsTopKTrainingSAEConfig as SAELensAbsTopKTrainingSAEConfig,
)
from sae_lens import SAETrainer, TopKTrainingSAE, TopKTrainingSAEConfig, TrainingSAE
from sae_lens.config import SAETrainerConfig

from sae_lens_abstopk import (
    AbsTopKTrainingSAE,
    AbsTopKTrainingSAEConfig,
    BatchAbsTopKTrainingSAE,
    BatchAbsTopKTrainingSAEConfig,
)
from sae_lens_abstopk.saes import SparseTopKTrainingSAE, SparseTopKTrainingSAEConfig
from sae_lens_abstopk.training.runner import use_fused_adam

SIZES = [(576, 9216, 57, 4096), (768, 24576, 76, 4096)]
WARM_UP = 2
Size = tuple[int, int, int, int]


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


def times(size: Size, repeats: int) -> dict[str, dict[str, float]]:
    """Median, least and most seconds of a step of each SAE, and of the encoder product."""
    d, f, _, b = size
    batch, weights = torch.randn(b, d), torch.randn(f, d)
    steps: dict[str, Callable[[], object]] = {"float32 encoder product": lambda: batch @ weights.T}
    for name in saes():
        trainer = make_trainer(name, size)
        steps[name] = lambda trainer=trainer: take_step(trainer, batch)
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


def times_alone(size: Size, rounds: int = 2) -> dict[str, list[float]]:
    """Median seconds of a step of each SAE in a fresh process that holds nothing else, round after round."""
    taken: dict[str, list[float]] = {name: [] for name in saes()}
    for _ in range(rounds):
        for name, values in taken.items():
            values.append(float(in_fresh_process("--time-of", name, size)))
    return taken


def median_time(name: str, size: Size, repeats: int = 5) -> float:
    """Median seconds of a step, measured in this process."""
    trainer, batch = make_trainer(name, size), torch.randn(size[3], size[0])
    taken = []
    for _ in range(WARM_UP + repeats):
        started = time.perf_counter()
        take_step(trainer, batch)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[WARM_UP:])


def in_fresh_process(flag: str, name: str, size: Size) -> str:
    """What this script prints for one SAE at one size."""
    command = [sys.executable, __file__, flag, name, *map(str, size)]
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory-of", nargs=5, help="internal: measure memory of one SAE at one size and print it")
    parser.add_argument("--time-of", nargs=5, help="internal: time one SAE at one size and print it")
    parser.add_argument(
        "--alone", action="store_true", help="time the first size with each SAE in a process of its own"
    )
    args = parser.parse_args()
    if args.memory_of:
        name, *size = args.memory_of
        print(peak_memory(name, tuple(map(int, size))))  # type: ignore[arg-type]
        return
    if args.time_of:
        name, *size = args.time_of
        print(median_time(name, tuple(map(int, size))))  # type: ignore[arg-type]
        return
    record: dict[str, Any] = {
        "command": "python benchmarks/step_time.py",
        "environment": {
            "python": platform.python_version(),
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            **{package: version(package) for package in ("torch", "sae-lens", "sae-lens-abstopk")},
        },
        "sizes": [],
    }
    if args.alone:
        record["command"] += " --alone"
        record["sizes"].append({"d_sae": SIZES[0][1], "seconds": times_alone(SIZES[0])})
        print(json.dumps(record, indent=1))
    for size in [] if args.alone else SIZES:
        seconds = times(size, args.repeats)
        memory = {}
        for name in saes():
            memory[name] = int(in_fresh_process("--memory-of", name, size))
        base = seconds["sae_lens abstopk"]["median"]
        ratios = {name: base / value["median"] for name, value in seconds.items()}
        entry = {"d_in": size[0], "d_sae": size[1], "k": size[2], "tokens": size[3]}
        record["sizes"].append(entry | {"seconds": seconds, "sae_lens_abstopk_over": ratios, "peak_bytes": memory})
        for name, value in seconds.items():
            share = f"{memory[name] / memory['sae_lens abstopk']:.2f} of the memory" if name in memory else ""
            print(
                f"{size}  {name:24} {value['median']:.3f} s ({value['least']:.3f} to {value['most']:.3f})  {ratios[name]:.2f}x  {share}",
                flush=True,
            )
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
