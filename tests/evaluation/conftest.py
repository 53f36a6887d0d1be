"""A trained SAE, and suites of one concept to evaluate it by."""

import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from transformers import PreTrainedTokenizerFast

from sae_lens_abstopk.training.config.config_file import build_config
from sae_lens_abstopk.training.train import train
from tests.conftest import six_steps
from tests.evaluation.task_files import CONCEPT

SMALL: dict[str, Any] = {
    "name": "small",
    "reconstruction": {"tokens": 256},
    "tasks": ("CONCEPT",),
    "texts_per_pole": 30,
    "steering": {
        "tasks": ("CONCEPT",),
        "strengths": (1.0, 3.0),
        "samples": 2,
        "max_new_tokens": 4,
        "random_directions": 1,
        "candidates": 3,
    },
}


@pytest.fixture(scope="session")
def trained(tiny_llama: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SAE of a run of ``raw_config``; to be copied by what would change it."""
    raw = six_steps(tiny_llama, texts, tmp_path_factory.mktemp("trained") / "run")
    return train(build_config(raw), console=Console(quiet=True)).folders["sae"]


def small_suite(task: str) -> dict[str, Any]:
    """Keys of a suite of one concept, that of the file ``task``."""
    return {**SMALL, "tasks": (task,), "steering": {**SMALL["steering"], "tasks": (task,)}}


@pytest.fixture
def small(tmp_path: Path) -> dict[str, Any]:
    """Keys of a suite of one concept."""
    path = tmp_path / "temperature.yaml"
    path.write_text(CONCEPT)
    return small_suite(str(path))


@pytest.fixture
def asking(small: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Keys of a suite that steers refusal and measures behaviour."""
    path = tmp_path / "temperature.yaml"
    prompts = "  chat: true\n" + CONCEPT[CONCEPT.index("  prompts") : CONCEPT.index("  scorer")]
    scorer = "  scorer: {kind: prefixes, hot: [I cannot]}\n"
    path.write_text(CONCEPT[: CONCEPT.index("  prompts")] + prompts + scorer)
    behaviour = {"task": str(path), "instructions": 30, "max_new_tokens": 3, "questions": 4}
    return {**small, "steering": {**small["steering"], "strengths": (2.0,), "behaviour": behaviour}}


@pytest.fixture
def chat_model(tiny_llama: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    chat = deepcopy(tokenizer)
    chat.chat_template = "{% for m in messages %}{{ m.content }}: {% endfor %}"
    shutil.copytree(tiny_llama, tmp_path / "chat")
    chat.save_pretrained(tmp_path / "chat")
    return tmp_path / "chat"
