"""Tokens per second of whole training runs: `abstopk train` against SAELens's runner, same model, text and settings.

    python -m experiments.speed.end_to_end --out build/bench/end_to_end.json

SmolLM2-135M-Instruct at layer 15, the language model in bfloat16 in both, an AbsTopK SAE of 9,216 latents with k = 57,
4,096 tokens per step. The two run in turn; the time is that of ``run()``, with models loaded before. Then the overhead
of the activation pipeline over the bare language model. Run it on an idle machine.
"""

import logging
import statistics
import tempfile
import time
import warnings
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

from experiments.recording import arguments, command, environment, write_record
from sae_lens_abstopk.model.inference import autocast_pays, bfloat16_autocast
from sae_lens_abstopk.model.language_model import load_language_model
from sae_lens_abstopk.model.quickstart_model import quickstart_model
from sae_lens_abstopk.model.text_store import saelens_notes_off
from sae_lens_abstopk.text.documents import load_text
from sae_lens_abstopk.training.config.config_file import load_config
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.runner import TrainingRun
from sae_lens_abstopk.training.source.language_model_source import LanguageModelSource

SETTINGS: dict[str, Any] = {
    "context_size": 128,
    "prepend_bos": False,
    "autocast_lm": autocast_pays(torch.device("cpu")),  # SAELens would use autocast even if float32 is faster
    "store_batch_size_prompts": 8,
    "n_batches_in_buffer": 128,
    "train_batch_size_tokens": 4096,
    "lr": 1e-3,
}
WARM_UP = 2


def our_config(model: Path, tokens: int, folder: str) -> TrainingConfig:
    overrides = [f"{key}={str(value).lower()}" for key, value in SETTINGS.items()]
    overrides += [f"model_name={model}", f"training_tokens={tokens}", f"output_path={folder}/run"]
    overrides += ["companions={}", "max_norm_multiple=null", "seqpos_slice=[null]", "exclude_special_tokens=false"]
    overrides += ["sae={architecture: abstopk, d_in: 576, d_sae: 9216, k: 57}"]
    return load_config("quickstart", overrides)


def ours(model: Path, tokens: int) -> float:
    """Time `abstopk train` in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        run = TrainingRun(our_config(model, tokens, folder), console=Console(quiet=True))
        started = time.perf_counter()
        run.run()
        return time.perf_counter() - started


def theirs(model: Path, tokens: int) -> float:
    """Time SAELens's runner in seconds."""
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
        text = load_text(load_config("quickstart", [f"model_name={model}"]).text_spec, "train")
        runner = LanguageModelSAETrainingRunner(cfg, override_dataset=text)
        started = time.perf_counter()
        runner.run()
        return time.perf_counter() - started


def pipeline(model: Path, repeats: int) -> dict[str, Any]:
    """
    Time a batch of the activation pipeline and of the bare forward pass, in seconds.

    In turn: draw training batches until the pipeline (text, language model, filter, mixing buffer) has refilled its
    buffer once, then run as many batches through the bare layers. Each refill is compared with the next passes, because
    the speed of a machine drifts by more than the difference.
    """
    from transformers import AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        cfg = our_config(model, 10**9, folder)
        language_model = load_language_model(cfg.model_spec, cfg.text_spec)
        with saelens_notes_off():
            store = LanguageModelSource.for_training(language_model, cfg, load_text(cfg.text_spec, "train"))
        layers: Any = AutoModelForCausalLM.from_pretrained(model).eval().model
        layers.layers = layers.layers[:16]
        refill = (
            SETTINGS["n_batches_in_buffer"] // 2 // SETTINGS["store_batch_size_prompts"]
        )  # half of the buffer stays
        tokens = [store.get_batch_tokens() for _ in range(refill)]
        loader, drawn, bare = store.get_data_loader(), [], []
        for i in range(WARM_UP + repeats):
            before, started = store.n_llm_batches, time.perf_counter()
            while store.n_llm_batches - before < refill:
                next(loader)
            seconds = (time.perf_counter() - started) / (store.n_llm_batches - before)
            started = time.perf_counter()
            with torch.no_grad(), bfloat16_autocast(torch.device("cpu"), enabled=True):
                for batch in tokens:
                    layers(batch)
            if i >= WARM_UP:
                drawn.append(seconds)
                bare.append((time.perf_counter() - started) / refill)
        store.close()
    per_batch = SETTINGS["store_batch_size_prompts"] * SETTINGS["context_size"]
    return {
        "tokens_per_batch": per_batch,
        "seconds_per_batch": {"pipeline": drawn, "bare language model to the hook": bare},
        "overhead": statistics.median(with_it / alone for with_it, alone in zip(drawn, bare, strict=True)) - 1,
        "bare_tokens_per_second": per_batch / statistics.median(bare),
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--tokens", type=int, default=81_920)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    sae_lens.logger.setLevel(logging.ERROR)
    machine = environment()
    model = quickstart_model(print)
    seconds: dict[str, list[float]] = {"ours": [], "sae_lens": []}
    for _ in range(args.repeats):
        seconds["ours"].append(ours(model, args.tokens))
        seconds["sae_lens"].append(theirs(model, args.tokens))
    speed = {name: args.tokens / statistics.median(values) for name, values in seconds.items()}
    record = {
        "command": command(),
        "tokens": args.tokens,
        "seconds": seconds,
        "tokens_per_second": speed,
        "ours_over_sae_lens": speed["ours"] / speed["sae_lens"],
        "pipeline": pipeline(model, repeats=5 * args.repeats),
        "environment": machine,
    }
    write_record(record, args.out)


if __name__ == "__main__":
    main()
