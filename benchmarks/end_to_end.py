"""Tokens a second of whole training runs: `abstopk train` against SAELens's runner, same model, text and settings.

    python benchmarks/end_to_end.py --out benchmarks/results/end_to_end.json

SmolLM2-135M-Instruct at layer 15, the language model in bfloat16 in both, an AbsTopK SAE of 9,216 latents with k = 57,
4,096 tokens a step. Alternates between the two; the time is that of ``run()``, models loaded before. Run it on an idle
machine.
"""

import argparse
import json
import logging
import platform
import statistics
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import sae_lens
import torch
from rich.console import Console
from sae_lens import (
    AbsTopKTrainingSAEConfig,
    LanguageModelSAERunnerConfig,
    LanguageModelSAETrainingRunner,
    LoggingConfig,
)

from sae_lens_abstopk.quickstart_model import quickstart_model
from sae_lens_abstopk.training.config_file import load_config
from sae_lens_abstopk.training.runner import TrainingRun
from sae_lens_abstopk.training.text import load_text

SETTINGS: dict[str, Any] = {
    "context_size": 128,
    "prepend_bos": False,
    "autocast_lm": True,
    "store_batch_size_prompts": 8,
    "n_batches_in_buffer": 128,
    "train_batch_size_tokens": 4096,
    "lr": 1e-3,
}


def ours(model: Path, tokens: int) -> float:
    """Seconds of `abstopk train`."""
    with tempfile.TemporaryDirectory() as folder:
        overrides = [f"{key}={str(value).lower()}" for key, value in SETTINGS.items()]
        overrides += [f"model_name={model}", f"training_tokens={tokens}", f"output_path={folder}/run"]
        overrides += ["companions={}", "max_norm_multiple=null", "seqpos_slice=[null]", "exclude_special_tokens=false"]
        overrides += ["sae={architecture: abstopk, d_in: 576, d_sae: 9216, k: 57}"]
        run = TrainingRun(load_config("quickstart", overrides), console=Console(quiet=True))
        started = time.perf_counter()
        run.run()
        return time.perf_counter() - started


def theirs(model: Path, tokens: int) -> float:
    """Seconds of SAELens's runner."""
    with tempfile.TemporaryDirectory() as folder:
        cfg = LanguageModelSAERunnerConfig(
            sae=AbsTopKTrainingSAEConfig(d_in=576, d_sae=9216, k=57),
            model_name=str(model),
            model_class_name="AutoModelForCausalLM",
            hook_name="model.layers.15",
            is_dataset_tokenized=False,
            training_tokens=tokens,
            checkpoint_path=None,
            output_path=f"{folder}/run",
            logger=LoggingConfig(log_to_wandb=False),
            verbose=False,
            **SETTINGS,
        )
        text = load_text(load_config("quickstart", [f"model_name={model}"]), "train")
        runner = LanguageModelSAETrainingRunner(cfg, override_dataset=text)
        started = time.perf_counter()
        runner.run()
        return time.perf_counter() - started


def bare_forward(model: Path, n_batches: int = 8) -> float:
    """Tokens a second of the language model alone, up to the hook."""
    from transformers import AutoModelForCausalLM

    layers: Any = AutoModelForCausalLM.from_pretrained(model).eval().model
    layers.layers = layers.layers[:16]
    tokens = torch.randint(3, 40_000, (8, 128))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        layers(tokens)
        started = time.perf_counter()
        for _ in range(n_batches):
            layers(tokens)
    return n_batches * tokens.numel() / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--tokens", type=int, default=40_960)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    sae_lens.logger.setLevel(logging.ERROR)
    model = quickstart_model(print)
    seconds: dict[str, list[float]] = {"ours": [], "sae_lens": []}
    for _ in range(args.repeats):
        seconds["ours"].append(ours(model, args.tokens))
        seconds["sae_lens"].append(theirs(model, args.tokens))
    speed = {name: args.tokens / statistics.median(values) for name, values in seconds.items()}
    record = {
        "command": "python benchmarks/end_to_end.py",
        "tokens": args.tokens,
        "seconds": seconds,
        "tokens_per_second": speed | {"bare language model to the hook": bare_forward(model)},
        "ours_over_sae_lens": speed["ours"] / speed["sae_lens"],
        "environment": {
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
            **{package: version(package) for package in ("torch", "sae-lens", "transformers", "sae-lens-abstopk")},
        },
    }
    print(json.dumps(record, indent=1))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
