"""Time and memory of a training step and of inference: ours against SAELens's and others'.

    python experiments/speed/step_time.py --peers .venv-peers/bin/python --out experiments/speed/results/step_time.json

For each size (D, F, K, B) and SAE, in float32 on random tokens:

- whole steps (forward, backward, clipping, Adam), alternating in one process on the same inputs, and the encoder product
  of that size alone as the floor; at the first size, whose proportions are those of the presets, with options that change
  the speed too;
- at the first size (with ``--alone`` at the others too, a round of ours and of SAELens's), the same steps with each SAE in
  a process of its own, in turn, and with ``--peers`` those of eai-sparsify and dictionary-learning in their environment;
- the peak memory of a step above parameters and optimiser state, gradients included, each in a fresh process.

``--curves`` varies F, K and B around the first size instead, ``--inference`` times encoding and decoding without gradients
of several numbers of tokens, and ``--profile`` says where our step at the largest size spends its time. ``--dead`` has a share of the latents count as dead in every step. Run it on an idle machine.
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
from typing import Any, NamedTuple

import torch
from peak_memory import peak_bytes
from recording import command, environment, write_record
from sae_lens import (
    AbsTopKSAE,
    AbsTopKSAEConfig,
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    SAETrainer,
    TopKTrainingSAE,
    TopKTrainingSAEConfig,
    TrainingSAE,
)
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
from sae_lens_abstopk.saes import (
    SparseBatchTopKTrainingSAE,
    SparseBatchTopKTrainingSAEConfig,
    SparseTopKTrainingSAE,
    SparseTopKTrainingSAEConfig,
)
from sae_lens_abstopk.training.trainers import use_fused_adam


class Size(NamedTuple):
    """What decides the time of a step; D, F, K and B in the tables."""

    d_in: int
    d_sae: int
    k: int
    tokens: int
    """Of a batch."""


SIZES = [Size(576, 9216, 57, 4096), Size(768, 24576, 76, 4096), Size(2304, 36864, 230, 4096)]
CURVES = {
    "d_sae": [Size(576, f, 57, 4096) for f in (2304, 4608, 9216, 18432)],
    "k": [Size(576, 9216, k, 4096) for k in (14, 29, 57, 115)],
    "tokens": [Size(576, 9216, 57, b) for b in (1024, 2048, 4096, 8192)],
}
SAELENS, OURS = "sae_lens abstopk", "abstopk"
AUTOCAST = "sae_lens abstopk, bfloat16 autocast"
PEERS = ("sparsify", "dictionary_learning")
SIGNED_EXPANSION_FACTOR = 0.25  # as in the presets
TOKENS_OF_INFERENCE = (128, 512, 1024, 4096)
WARM_UP = 1


def saes() -> dict[str, Callable[[int, int, int], TrainingSAE[Any]]]:
    """What is timed at every size."""
    return {
        "sae_lens abstopk": lambda d, f, k: SAELensAbsTopKTrainingSAE(
            SAELensAbsTopKTrainingSAEConfig(d_in=d, d_sae=f, k=k)
        ),
        "sae_lens topk": lambda d, f, k: TopKTrainingSAE(TopKTrainingSAEConfig(d_in=d, d_sae=f, k=k)),
        "sparse_topk": lambda d, f, k: SparseTopKTrainingSAE(SparseTopKTrainingSAEConfig(d_in=d, d_sae=f, k=k)),
        "abstopk": lambda d, f, k: AbsTopKTrainingSAE(AbsTopKTrainingSAEConfig(d_in=d, d_sae=f, k=k)),
        "batch_abstopk": lambda d, f, k: BatchAbsTopKTrainingSAE(BatchAbsTopKTrainingSAEConfig(d_in=d, d_sae=f, k=k)),
    }


def options() -> dict[str, Callable[[int, int, int], TrainingSAE[Any]]]:
    """What is timed at the first size alone."""
    return {
        AUTOCAST: saes()[SAELENS],
        "sae_lens topk, sparse activations": lambda d, f, k: TopKTrainingSAE(
            # its backward pass raises where codes are rescaled, which is the default
            TopKTrainingSAEConfig(d_in=d, d_sae=f, k=k, use_sparse_activations=True, rescale_acts_by_decoder_norm=False)
        ),
        "sae_lens batchtopk": lambda d, f, k: BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(d_in=d, d_sae=f, k=k)),
        "abstopk, selection in float32": lambda d, f, k: AbsTopKTrainingSAE(
            AbsTopKTrainingSAEConfig(d_in=d, d_sae=f, k=k, selection_dtype="float32")
        ),
        "batch_abstopk, D / 4 signed": lambda d, f, k: BatchAbsTopKTrainingSAE(
            BatchAbsTopKTrainingSAEConfig(d_in=d, d_sae=f, k=k, signed_share=SIGNED_EXPANSION_FACTOR * d / f)
        ),
        "sparse_batchtopk": lambda d, f, k: SparseBatchTopKTrainingSAE(
            SparseBatchTopKTrainingSAEConfig(d_in=d, d_sae=f, k=k)
        ),
    }


def make_trainer(name: str, size: Size) -> SAETrainer[Any, Any]:
    d, f, k, b = size
    torch.manual_seed(0)
    cfg = SAETrainerConfig(
        total_training_samples=b, train_batch_size_samples=b, lr=1e-3, lr_end=1e-3, autocast=name == AUTOCAST
    )
    trainer = SAETrainer(cfg=cfg, sae=(saes() | options())[name](d, f, k), data_provider=iter(()))
    return trainer if name.startswith("sae_lens") else use_fused_adam(trainer)


def take_step(trainer: SAETrainer[Any, Any], batch: torch.Tensor, dead: float = 0.0) -> None:
    """A step in which the first latents, a share ``dead`` of all, count as dead."""
    n_dead = round(dead * trainer.sae.cfg.d_sae)
    trainer.n_forward_passes_since_fired[:n_dead] = trainer.cfg.dead_feature_window + 1
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


def step_times(size: Size, repeats: int, names: Sequence[str], dead: float = 0.0) -> dict[str, dict[str, float]]:
    """Seconds of a training step of each SAE, and of the encoder product."""
    d, f, _, b = size
    batch, weights = torch.randn(b, d), torch.randn(f, d)
    steps: dict[str, Callable[[], object]] = {"float32 encoder product": lambda: batch @ weights.T}
    for name in names:
        steps[name] = functools.partial(take_step, make_trainer(name, size), batch, dead)
    return alternating(steps, repeats)


@torch.no_grad()
def inference_times(size: Size, repeats: int) -> dict[str, dict[str, float]]:
    """Seconds of encode and decode: SAELens's on its own ``abstopk``, and ``encode_topk``, ``decode_topk`` on the same SAE."""
    d, f, k, b = size
    sae, batch = AbsTopKSAE(AbsTopKSAEConfig(d_in=d, d_sae=f, k=k)), torch.randn(b, d)
    sae.W_enc.data = torch.randn(d, f) / d**0.5  # laid out as that of an SAE that was loaded
    steps = {
        SAELENS: lambda: sae.decode(sae.encode(batch)),
        OURS: lambda: decode_topk(sae, encode_topk(sae, batch)),
    }
    return alternating(steps, repeats)


def times_alone(
    size: Size, repeats: int, rounds: int, names: Sequence[str], peers: Path | None, dead: float
) -> dict[str, Any]:
    """
    Median seconds of a step of each SAE in a fresh process that holds nothing else, a number a round, and of each peer's,
    with the versions and threads that the peers say they ran on.
    """
    taken: dict[str, list[float]] = {name: [] for name in (*names, *(PEERS if peers else ()))}
    ran_on: dict[str, Any] = {}
    for _ in range(rounds):
        for name, seconds in taken.items():
            if name in PEERS:
                found = peer_step(name, size, repeats, str(peers))
                seconds.append(found.pop("seconds"))
                ran_on[name] = found
            else:
                seconds.append(float(in_fresh_process("--time-of", name, size, dead, repeats)))
    return {"seconds_alone": taken, "peers": ran_on}


def peer_step(name: str, size: Size, repeats: int, python: str) -> dict[str, Any]:
    """What ``peer_step.py`` prints."""
    arguments = [
        python,
        str(Path(__file__).with_name("peer_step.py")),
        name,
        *map(str, size),
        "--repeats",
        str(repeats),
    ]
    without_gpu = os.environ | {"SPARSIFY_DISABLE_TRITON": "1"}  # its kernels need one
    done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True, env=without_gpu)
    return json.loads(done.stdout.splitlines()[-1])


def median_time(name: str, size: Size, repeats: int, dead: float) -> float:
    """Median seconds of a step, measured in this process."""
    step = functools.partial(take_step, make_trainer(name, size), torch.randn(size[3], size[0]), dead)
    return alternating({name: step}, repeats)[name]["median"]


def profile(size: Size) -> dict[str, Any]:
    """Seconds of one ``abstopk`` step: all operations together, and by operation, the ten that take most."""
    trainer, batch = make_trainer(OURS, size), torch.randn(size[3], size[0])
    take_step(trainer, batch)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        take_step(trainer, batch)
    by_time = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
    return {
        "seconds": sum(event.self_cpu_time_total for event in by_time) / 1e6,
        "seconds_by_operation": {event.key: event.self_cpu_time_total / 1e6 for event in by_time[:10]},
    }


def in_fresh_process(flag: str, name: str, size: Size, dead: float, repeats: int = 1) -> str:
    """What this script prints for one SAE at one size."""
    arguments = [sys.executable, __file__, flag, name, *map(str, size), "--repeats", str(repeats), "--dead", str(dead)]
    return subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1]


def peak_memory(name: str, size: Size, dead: float) -> int:
    """
    Bytes that a step needs at its peak above parameters and optimiser state.

    SAELens's trainer lets go of the gradients after a step, so they are part of the peak.
    """
    trainer = make_trainer(name, size)
    take_step(trainer, torch.randn(8, size[0]))  # parameters and optimiser state are there after this
    return peak_bytes(lambda: take_step(trainer, torch.randn(size[3], size[0]), dead))


def measure(size: Size, repeats: int, args: argparse.Namespace) -> dict[str, Any]:
    """Everything about one size; at the largest, a step of SAELens's takes half a minute, and TopK is left out."""
    first, largest = size == SIZES[0], size == SIZES[-1]
    names = [name for name in saes() if not largest or "topk" not in name.replace("abstopk", "")]
    measured = [*names, *options()] if first else names
    seconds = step_times(size, repeats, measured, args.dead)
    found: dict[str, Any] = {
        "d_in": size[0],
        "d_sae": size[1],
        "k": size[2],
        "tokens": size[3],
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=5, help="at the first size; the others take fewer")
    parser.add_argument("--peers", type=Path, help="Python of an environment with eai-sparsify and dictionary-learning")
    parser.add_argument("--alone", action="store_true", help="processes of their own at the other sizes too")
    parser.add_argument(
        "--dead", type=float, default=0.0, metavar="SHARE", help="share of the latents that count as dead"
    )
    parser.add_argument("--curves", action="store_true", help="vary F, K and B")
    parser.add_argument("--inference", action="store_true", help="encode and decode in place of training steps")
    parser.add_argument("--profile", action="store_true", help="profile our step at the largest size")
    parser.add_argument("--memory-of", nargs=5, help="internal: measure memory of one SAE at one size and print it")
    parser.add_argument("--time-of", nargs=5, help="internal: time one SAE at one size and print it")
    args = parser.parse_args()
    if args.memory_of or args.time_of:
        name, *numbers = args.memory_of or args.time_of
        size = Size(*map(int, numbers))
        print(
            peak_memory(name, size, args.dead) if args.memory_of else median_time(name, size, args.repeats, args.dead)
        )
        return
    record: dict[str, Any] = {"command": command(), "environment": environment()}
    if args.curves:
        once = functools.cache(lambda size: step_times(size, 3, [SAELENS, OURS], args.dead))
        record["curves"] = {
            varied: [{varied: getattr(size, varied), **once(size)} for size in sizes]
            for varied, sizes in CURVES.items()
        }
        print(json.dumps(record["curves"], indent=1))
    elif args.inference:
        record["times"] = [
            {
                "d_sae": size.d_sae,
                "tokens": tokens,
                "seconds": inference_times(size._replace(tokens=tokens), args.repeats),
            }
            for size in SIZES
            for tokens in TOKENS_OF_INFERENCE
        ]
        print(json.dumps(record["times"], indent=1))
    elif args.profile:
        record |= profile(SIZES[-1])
        print(json.dumps(record, indent=1))
    else:
        repeats = [args.repeats, 3, 3]
        record["sizes"] = [measure(size, n, args) for size, n in zip(SIZES, repeats, strict=True)]
    write_record(record, args.out)


if __name__ == "__main__":
    main()
