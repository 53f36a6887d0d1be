"""The scripts of ``experiments/speed``: what they time takes its step, and what they write into pages and records."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.speed.beside import measures
from experiments.speed.filling import retold

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a script as if it was started."""
    monkeypatch.syspath_prepend(str(ROOT / "experiments" / "speed"))
    return importlib.import_module


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_every_sae_that_is_timed_takes_its_step_with_dead_latents_too(script: Any) -> None:
    step_time = script("step_time")
    size = (16, 128, 4, 32)
    names = [*step_time.saes(), *step_time.options()]
    assert set(step_time.step_times(size, 1, names, 0.25)) == {"float32 encoder product", *names}
    trainer = step_time.make_trainer(step_time.OURS, size)
    step_time.take_step(trainer, torch.randn(32, 16), 0.25)
    assert trainer.n_forward_passes_since_fired[32:].max() <= 1
    assert set(step_time.inference_times(size, 1)) == {step_time.SAELENS, step_time.OURS}


def test_a_record_says_of_paths_only_what_is_in_the_clone(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = script("recording")
    arguments = [
        "experiments/speed/a.py",
        "--out",
        f"{ROOT}/build/a.json",
        "dataset_path=/elsewhere/text.jsonl",
        "lr=1e-3",
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    assert recording.command() == "python experiments/speed/a.py --out build/a.json dataset_path=text.jsonl lr=1e-3"
    assert len(recording.environment()["load_average"]) == 3


def test_numbers_of_a_sentence_are_replaced_wherever_its_lines_break() -> None:
    page = "It is 6.8 to 14.3\ntimes as fast (torch 2.15.0, 1,033 MiB)."
    found = retold(page, "{} to {} times as fast (torch {}, {} MiB)", ("3.8", "9.7", "2.16.1+cpu", "-5"))
    assert found == "It is 3.8 to 9.7\ntimes as fast (torch 2.16.1+cpu, -5 MiB)."
    assert (
        retold(found, "(torch {}, {} MiB)", ("2.15.0", "7")) == "It is 3.8 to 9.7\ntimes as fast (torch 2.15.0, 7 MiB)."
    )
    with pytest.raises(ValueError, match="2 times; it needs it once"):
        retold("1 s, 2 s", "{} s", ("3",))


def test_numbers_of_a_record_are_told_apart_by_where_they_stand() -> None:
    record = {
        "command": "x",
        "environment": {"threads": 2},
        "sizes": [{"seconds": {"a": {"median": 2, "least": 1}}}],
        "n": [1, 4],
    }
    assert dict(measures(record)) == {"sizes 1 / seconds / a": 2, "n": 2.5}
