import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx
import jaxtyping
import pytest
import torch
import wandb
from hypothesis import settings
from rich.console import Console
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    Gemma3Config,
    GPT2Config,
    GPTNeoConfig,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from sae_lens_abstopk import train
from sae_lens_abstopk.evaluation.probing import probe_score
from sae_lens_abstopk.system import precision
from sae_lens_abstopk.training.config.config_file import build_config
from tests.labeler_stand_in import StandIn

# Ray reads this when it is imported; under `uv run` it would make another environment for its workers
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
torch.set_num_threads(1)  # the models are tiny: more threads would only wait for each other
# the same examples every time: whether a test passes is not to depend on luck
settings.register_profile("here", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("here")

SENTENCES = (
    "The old lighthouse keeper had not spoken to anyone for three weeks when she arrived.",
    "He promised that he would never go back, and yet he walked to the river every night.",
    "A glacier forms where snow falls year after year and slowly turns into blue ice.",
    "We loved the film, but they hated every minute of it and left before the end.",
)
VOCABULARY = 300
N_LAYERS = 6
"""Layers of a tiny model."""
# folders of tests
SHAPES_CHECKED_IN = {"saes", "sparse", "equivalents", "config"}


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, which need not be there
def pytest_xdist_auto_num_workers() -> int:
    """One for each core, four at most: each holds torch and its models."""
    return min(os.cpu_count() or 1, 4)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Among several workers, the files that take minutes start first, so that none of them is left for the end."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    """Shapes are checked (``tests/shape_checks.py``) in some folders: all checks together take longer than training."""
    jaxtyping.config.update("jaxtyping_disable", SHAPES_CHECKED_IN.isdisjoint(item.nodeid.split("/")))


@pytest.fixture
def wandb_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where Weights & Biases writes, without a server; it reads what says so once a process."""
    wandb.teardown()
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    yield tmp_path
    wandb.teardown()


@pytest.fixture
def default_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end a process, whatever ``nohup``, or a runner of SAELens before, has set."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JSONL file of 400 short documents."""
    path = tmp_path_factory.mktemp("text") / "texts.jsonl"
    lines = [{"text": " ".join(SENTENCES[(i + j) % 4] for j in range(6)), "number": i} for i in range(400)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    byte_level = Tokenizer(models.BPE())
    byte_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte_level.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    byte_level.train_from_iterator(SENTENCES * 5, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_level, bos_token="<s>", eos_token="</s>", pad_token="</s>", model_max_length=10**6
    )


@pytest.fixture(scope="session")
def bos_tokenizer(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The same, but that it puts a BOS before every text itself, as those of Gemma and Llama do."""
    own = deepcopy(tokenizer)
    own.backend_tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    return own


def at_layer_3(code: str) -> str:
    """Return code of a page that reads layer 3 where it reads layer 15, which tiny models lack."""
    return re.sub(r"(blocks\.|layers\.|layers\[|output\[|layer=|layer: )15\b", r"\g<1>3", code)


def tiny_configs() -> dict[str, PreTrainedConfig]:
    """Configs of tiny models of the classes of the presets, by preset, and of one whose layers give a tuple."""
    tokens: dict[str, Any] = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    common: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": N_LAYERS, "num_attention_heads": 2, **tokens}
    grouped: dict[str, Any] = {**common, "num_key_value_heads": 1, "intermediate_size": 48}
    gemma3_text = {**grouped, "head_dim": 16}
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    vision |= {"image_size": 28, "patch_size": 14}
    return {
        "pythia-70m": GPTNeoXConfig(**common, intermediate_size=48),
        "gpt2": GPT2Config(n_embd=32, n_layer=N_LAYERS, n_head=2, **tokens),
        "gemma-2-2b": Gemma2Config(**grouped, head_dim=16),
        "qwen3-4b": Qwen3Config(**grouped, head_dim=16),
        "gemma-3-12b": Gemma3Config(text_config=gemma3_text, vision_config=vision, **tokens),
        "llama-3.1-8b": LlamaConfig(**grouped),
        "gpt-neo": GPTNeoConfig(
            hidden_size=32,
            num_layers=N_LAYERS,
            num_heads=2,
            attention_types=[[["global", "local"], N_LAYERS // 2]],
            **tokens,
        ),
    }


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> dict[str, Path]:
    """Folders of randomly initialised models, by preset."""
    root = tmp_path_factory.mktemp("models")
    for name, config in tiny_configs().items():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    return {name: root / name for name in tiny_configs()}


@pytest.fixture(scope="session")
def tiny_llama(tiny_models: dict[str, Path]) -> Path:
    return tiny_models["llama-3.1-8b"]


CHAT_TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@pytest.fixture(scope="session")
def tiny_adapter(
    tiny_llama: Path, tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Folder of a random LoRA adapter of the tiny Llama, with a tokenizer that has a chat template."""
    from peft import LoraConfig, get_peft_model  # not in the environment of the interop tests

    folder, targets = tmp_path_factory.mktemp("adapter"), ["q_proj", "down_proj"]
    torch.manual_seed(1)
    lora = LoraConfig(r=2, lora_alpha=8, target_modules=targets, init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_llama), lora).save_pretrained(str(folder))
    chat = deepcopy(tokenizer)
    chat.chat_template = CHAT_TEMPLATE
    chat.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_tuned(tiny_llama: Path, tiny_adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the tiny Llama with that adapter merged into its weights."""
    from peft import PeftModel

    folder = tmp_path_factory.mktemp("tuned")
    adapted: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_llama), tiny_adapter)
    adapted.merge_and_unload().save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_adapter).save_pretrained(folder)
    return folder


def small_run(model: Path, texts: Path) -> list[str]:
    """Overrides that turn a preset into two quick steps on a tiny model."""
    return [
        f"model_name={model}",
        f"dataset_path={texts}",
        "device=cpu",
        "layer=3",
        "sae.d_in=32",
        "training_steps=2",
        "train_batch_size_tokens=64",
        "context_size=32",
        "store_batch_size_prompts=4",
        "n_batches_in_buffer=8",
        "perf_tokens=128",
        "sequence_separator_token=eos",  # of the vocabulary of the tiny model
    ]


def six_steps(model: Path, texts: Path, output: Path) -> dict[str, Any]:
    """A config file's content for a run of six quick steps."""
    return {
        "model_name": str(model),
        "hook_name": "model.layers.2",
        "dataset_path": str(texts),
        "context_size": 32,
        "seqpos_slice": [1, None],
        "store_batch_size_prompts": 4,
        "n_batches_in_buffer": 16,
        "training_tokens": 384,
        "train_batch_size_tokens": 64,
        "lr": 1e-3,
        "device": "cpu",
        "perf_log_freq": 3,
        "perf_tokens": 256,
        "checkpoint_freq": 0,
        "output_path": str(output),
        "logger": {"wandb_log_frequency": 1},
        "sae": {"architecture": "abstopk", "d_in": 32, "d_sae": 64, "k": 4},
    }


@pytest.fixture
def raw_config(tiny_llama: Path, texts: Path, tmp_path: Path) -> dict[str, Any]:
    """A config file's content for a run of six quick steps into a folder of the test."""
    return six_steps(tiny_llama, texts, tmp_path / "run")


@pytest.fixture(scope="session")
def trained_together(tiny_llama: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of a signed SAE and a TopK SAE."""
    raw = six_steps(tiny_llama, texts, tmp_path_factory.mktemp("together") / "run")
    raw["sae"]["architecture"] = "batch_abstopk"
    raw["companions"] = {"topk": {"architecture": "topk"}}
    return train(build_config(raw), console=Console(quiet=True)).folders["sae"]


@pytest.fixture
def folders(trained_together: Path, tmp_path: Path) -> list[Path]:
    """Of a signed SAE and a TopK SAE, trained together; a copy for the test."""
    run = shutil.copytree(trained_together, tmp_path / "run")
    return [run, run / "topk"]


@pytest.fixture(autouse=True, scope="session")
def passes_apart_and_in_float32(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Passes that the explorer saves stay out of the user's cache; no trial of tiny models, which chance decides."""
    with pytest.MonkeyPatch.context() as patched:
        folder = tmp_path_factory.mktemp("passes")
        patched.setattr("sae_lens_abstopk.explorer.pass_cache.passes_folder", lambda: folder)
        patched.setattr(precision, "LEAST_SECONDS", float("inf"))
        yield


@pytest.fixture(autouse=True)
def two_penalties(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes choose between two penalties, as six take long; all of them where probes themselves are tested."""
    if "probing" not in request.path.parts:
        monkeypatch.setattr(probe_score, "CS", (1e-2, 1.0))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """An endpoint of a labeler."""
    made = StandIn()
    monkeypatch.setattr(httpx, "post", made.post)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return made
