"""Time and memory of a training step and of inference: ours, SAELens's and other libraries'.

    python -m experiments.speed.step_time --peers .venv-peers/bin/python --out build/bench/step_time.json

Measures in float32 on random tokens, for each size (D, F, K, B) and SAE:

- whole steps (forward, backward, clipping, Adam), in turn in one process on the same inputs, beside the float32
  encoder product; at the first size, which has the proportions of the presets, also options that change the speed;
- at the first size (at all with ``--alone``), the same steps with each SAE in a process of its own, and with
  ``--peers`` those of eai-sparsify and dictionary-learning in their environment;
- the peak memory of a step above parameters and optimiser state, gradients included, each in a fresh process.

``--curves`` varies F, K and B around the first size, ``--inference`` times encode and decode, ``--profile`` lists the
operations of our step at the largest size. Run it on an idle machine.
"""

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from sae_lens import AbsTopKSAE, AbsTopKSAEConfig

from experiments.recording import ROOT, arguments, command, environment, write_record
from experiments.speed.peak_memory import peak_bytes
from experiments.speed.timed_saes import (
    AT_EVERY_SIZE,
    AT_THE_FIRST_SIZE,
    OURS,
    SAELENS,
    Size,
    make_trainer,
    take_step,
)
from sae_lens_abstopk import decode_topk, encode_topk

SIZES = [Size(576, 9216, 57, 4096), Size(768, 24576, 76, 4096), Size(2304, 36864, 230, 4096)]
CURVES = {
    "d_sae": [Size(576, f, 57, 4096) for f in (2304, 4608, 9216, 18432)],
    "k": [Size(576, 9216, k, 4096) for k in (14, 29, 57, 115)],
    "tokens": [Size(576, 9216, 57, b) for b in (1024, 2048, 4096, 8192)],
}
PEERS = ("sparsify", "dictionary_learning")
TOKENS_OF_INFERENCE = (128, 512, 1024, 4096)
WARM_UP = 1


def alternating(steps: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, dict[str, float]]:
    """Time each step, in turn; return the median, least and most seconds."""
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


def step_times(size: Size, repeats: int, names: Sequence[str], dead: float = 0.0) -> dict[str, dict[str, float]]:
    """Time a training step of each SAE, and the encoder product, in seconds."""
    batch, weights = torch.randn(size.tokens, size.d_in), torch.randn(size.d_sae, size.d_in)
    steps: dict[str, Callable[[], object]] = {"float32 encoder product": lambda: batch @ weights.T}
    for name in names:
        steps[name] = functools.partial(take_step, make_trainer(name, size), batch, dead)
    return alternating(steps, repeats)


@torch.no_grad()
def inference_times(size: Size, repeats: int) -> dict[str, dict[str, float]]:
    """Time encode and decode of a stock ``abstopk`` SAE: SAELens's, and ``encode_topk``, ``decode_topk``."""
    sae = AbsTopKSAE(AbsTopKSAEConfig(d_in=size.d_in, d_sae=size.d_sae, k=size.k))
    batch = torch.randn(size.tokens, size.d_in)
    sae.W_enc.data = torch.randn(size.d_in, size.d_sae) / size.d_in**0.5  # the memory layout of a loaded SAE
    steps = {
        SAELENS: lambda: sae.decode(sae.encode(batch)),
        OURS: lambda: decode_topk(sae, encode_topk(sae, batch)),
    }
    return alternating(steps, repeats)


def times_alone(
    size: Size, repeats: int, rounds: int, names: Sequence[str], peers: Path | None, dead: float
) -> dict[str, Any]:
    """Time a step of each SAE and peer in its own process, one per round; return medians and the peers' versions."""
    taken: dict[str, list[float]] = {name: [] for name in (*names, *(PEERS if peers else ()))}
    ran_on: dict[str, Any] = {}
    for _ in range(rounds):
        for name, seconds in taken.items():
            if name in PEERS:
                ran_on[name] = peer_step(name, size, repeats, str(peers))
                seconds.append(ran_on[name].pop("seconds"))
            else:
                seconds.append(float(in_fresh_process("--time-of", name, size, dead, repeats)))
    return {"seconds_alone": taken, "peers": ran_on}


def peer_step(name: str, size: Size, repeats: int, python: str) -> dict[str, Any]:
    """Return the output of ``peer_step.py`` under ``python``."""
    script = str(Path(__file__).with_name("peer_step.py"))
    arguments = [python, script, name, *map(str, size), "--repeats", str(repeats)]
    without_gpu = os.environ | {"SPARSIFY_DISABLE_TRITON": "1"}  # its kernels need a GPU
    done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True, env=without_gpu)
    return json.loads(done.stdout.splitlines()[-1])


def in_fresh_process(flag: str, name: str, size: Size, dead: float, repeats: int = 1) -> str:
    """Return the output of this module for one SAE at one size."""
    module = [sys.executable, "-m", "experiments.speed.step_time"]
    arguments = [*module, flag, name, *map(str, size), "--repeats", str(repeats), "--dead", str(dead)]
    return subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT).stdout.split()[-1]


def peak_memory(name: str, size: Size, dead: float) -> int:
    """Measure the peak bytes of a step above parameters and optimiser state, gradients included."""
    trainer = make_trainer(name, size)
    take_step(trainer, torch.randn(8, size.d_in))  # creates the optimiser state
    return peak_bytes(lambda: take_step(trainer, torch.randn(size.tokens, size.d_in), dead))


def profile(size: Size) -> dict[str, Any]:
    """Profile one ``abstopk`` step: seconds in all, and of the ten slowest operations."""
    trainer, batch = make_trainer(OURS, size), torch.randn(size.tokens, size.d_in)
    take_step(trainer, batch)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        take_step(trainer, batch)
    by_time = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
    return {
        "seconds": sum(event.self_cpu_time_total for event in by_time) / 1e6,
        "seconds_by_operation": {event.key: event.self_cpu_time_total / 1e6 for event in by_time[:10]},
    }


def measure(size: Size, repeats: int, args: argparse.Namespace) -> dict[str, Any]:
    """Measure everything at one size; the largest skips SAELens's TopK, whose step takes half a minute."""
    first, largest = size == SIZES[0], size == SIZES[-1]
    names = [name for name in AT_EVERY_SIZE if not (largest and name.endswith((" topk", "_topk")))]
    measured = [*names, *AT_THE_FIRST_SIZE] if first else names
    seconds = step_times(size, repeats, measured, args.dead)
    found: dict[str, Any] = {
        **size._asdict(),
        "repeats": repeats,
        "seconds": seconds,
        "sae_lens_abstopk_over": {n: seconds[SAELENS]["median"] / value["median"] for n, value in seconds.items()},
        "seconds_alone": {},
        "peak_bytes": {name: int(in_fresh_process("--memory-of", name, size, args.dead)) for name in measured},
    }
    if first:
        found |= times_alone(size, repeats, 2, names, args.peers, args.dead)
    elif args.alone:
        found |= times_alone(size, 1, 1, [SAELENS, OURS], None, args.dead)
    print(json.dumps(found, indent=1), flush=True)
    return found


def measure_one(args: argparse.Namespace) -> float:
    """Measure the peak memory or median seconds of a step, in this process."""
    name, *numbers = args.memory_of or args.time_of
    size = Size(*map(int, numbers))
    if args.memory_of:
        return peak_memory(name, size, args.dead)
    batch = torch.randn(size.tokens, size.d_in)
    step = functools.partial(take_step, make_trainer(name, size), batch, args.dead)
    return alternating({name: step}, args.repeats)[name]["median"]


def parsed() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=5, help="at the first size; the others take 3")
    parser.add_argument("--peers", type=Path, help="Python of an environment with eai-sparsify and dictionary-learning")
    parser.add_argument("--alone", action="store_true", help="processes of their own at the other sizes too")
    parser.add_argument("--dead", type=float, default=0.0, metavar="SHARE", help="share of latents counted as dead")
    parser.add_argument("--curves", action="store_true", help="vary F, K and B")
    parser.add_argument("--inference", action="store_true", help="encode and decode in place of training steps")
    parser.add_argument("--profile", action="store_true", help="profile our step at the largest size")
    parser.add_argument("--memory-of", nargs=5, help="internal: print the memory of one SAE at one size")
    parser.add_argument("--time-of", nargs=5, help="internal: print the seconds of one SAE at one size")
    return parser.parse_args()


def main() -> None:
    args = parsed()
    if args.memory_of or args.time_of:
        print(measure_one(args))
        return
    record: dict[str, Any] = {"command": command(), "environment": environment()}
    if args.curves:
        once = functools.cache(lambda size: step_times(size, 3, [SAELENS, OURS], args.dead))
        record["curves"] = {
            varied: [{varied: getattr(size, varied), **once(size)} for size in sizes]
            for varied, sizes in CURVES.items()
        }
    elif args.inference:
        at = [size._replace(tokens=tokens) for size in SIZES for tokens in TOKENS_OF_INFERENCE]
        record["times"] = [
            {"d_sae": size.d_sae, "tokens": size.tokens, "seconds": inference_times(size, args.repeats)} for size in at
        ]
    elif args.profile:
        record |= profile(SIZES[-1])
    else:
        repeats = [args.repeats, 3, 3]
        record["sizes"] = [measure(size, n, args) for size, n in zip(SIZES, repeats, strict=True)]
    write_record(record, args.out)


if __name__ == "__main__":
    main()
