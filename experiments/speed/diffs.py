"""Speed and memory of reading a base model and an adapter of it, beside bare passes of both.

    python -m experiments.speed.diffs --model FOLDER --adapter FOLDER --out experiments/speed/results/diffs.json

In turn: draw a batch from the activation pipeline of `abstopk diff` (text, both models up to the hook, filter), then
run a batch through the bare layers of the base model and through those with the adapter. Both are in seconds of the
processor, since other programs may run beside. The peaks of memory are of one batch, each in a process of its own.
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from rich.console import Console
from transformers import AutoModelForCausalLM

from experiments.speed.peak_memory import peak_bytes
from experiments.speed.recording import ROOT, command, environment, write_record
from sae_lens_abstopk.model.check_hook import chosen_hook
from sae_lens_abstopk.model.hook_places import without_adapter
from sae_lens_abstopk.training.config.config_file import load_config
from sae_lens_abstopk.training.runner import DifferenceRun

TEXT = ROOT / "training_configs" / "text" / "smollm2_samples.jsonl.gz"
LAYERS = 16
"""Layers up to the hook."""
PER_ROUND, WARM_UP = 1, 1


def opened(model: str, adapter: str, folder: str) -> DifferenceRun:
    """Open a run of the preset ``diff``."""
    keys: dict[str, Any] = {"model_name": model, "adapter": adapter, "layer": LAYERS - 1, "dataset_path": str(TEXT)}
    keys |= {"output_path": f"{folder}/run", "device": "cpu", "perf_log_freq": 0}
    keys |= {"max_norm_multiple": None}  # else the first batches are read for their norms
    return DifferenceRun(load_config("diff", keys), console=Console(quiet=True))


def bare_layers(model: str, adapter: str | None) -> Callable[[torch.Tensor], object]:
    """Return the layers of a model up to the hook as a function of token ids."""
    lm: Any = AutoModelForCausalLM.from_pretrained(model, dtype="auto")
    inner: Any = without_adapter(lm if adapter is None else PeftModel.from_pretrained(lm, adapter)).eval().model
    inner.layers = inner.layers[:LAYERS]
    return lambda tokens: inner(tokens, use_cache=False)


@torch.no_grad()
def speed(model: str, adapter: str, rounds: int) -> dict[str, Any]:
    """Time a batch of the pipeline and of the two bare passes."""
    with tempfile.TemporaryDirectory() as folder:
        source: Any = opened(model, adapter, folder).source
        tokens = [source.get_batch_tokens() for _ in range(PER_ROUND)]
        passes = [bare_layers(model, None), bare_layers(model, adapter)]
        blocks, ours, bare = source._iterate_filtered_activations(), [], []
        for _ in range(WARM_UP + rounds):
            started = time.process_time()
            for _ in range(PER_ROUND):
                next(blocks)
            ours.append((time.process_time() - started) / PER_ROUND)
            started = time.process_time()
            for batch in tokens:
                for run in passes:
                    run(batch)
            bare.append((time.process_time() - started) / PER_ROUND)
        source.close()
    ours, bare = ours[WARM_UP:], bare[WARM_UP:]
    share = statistics.median(of_bare / of_ours for of_ours, of_bare in zip(ours, bare, strict=True))
    seconds = {"pipeline": ours, "two bare passes": bare}
    return {"tokens_per_batch": tokens[0].numel(), "seconds_per_batch": seconds, "speed_of_bare": share}


@torch.no_grad()
def peak(which: str, model: str, adapter: str) -> int:
    """Measure the peak bytes of loading one or both models, and of one batch."""
    tokens = torch.randint(1000, 2000, (16, 128), generator=torch.Generator().manual_seed(0))

    def alone() -> None:
        bare_layers(model, None)(tokens)

    def both() -> None:
        with tempfile.TemporaryDirectory() as folder:
            source: Any = opened(model, adapter, folder).source
            source.pair.activations(tokens)
            source.close()

    return peak_bytes({"one model": alone, "both, by an adapter": both}[which])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of SmolLM2-135M-Instruct")
    parser.add_argument("--adapter", required=True, help="folder of a PEFT adapter of it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    machine = environment()
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        peaks = {
            which: pool.apply(peak, (which, args.model, args.adapter)) for which in ("one model", "both, by an adapter")
        }
    record = {
        "command": command(),
        "environment": machine,
        "hook": chosen_hook(args.model, layer=LAYERS - 1),
        "speed": speed(args.model, args.adapter, args.rounds),
        "peak_bytes": peaks,
    }
    write_record(record, args.out)


if __name__ == "__main__":
    main()
