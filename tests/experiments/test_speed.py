"""The benchmarks: every SAE that they time takes its step, and records and pages get the right numbers."""

import sys

import pytest
import torch

from experiments import recording
from experiments.pages import retold
from experiments.speed import step_time
from experiments.speed.timed_saes import AT_EVERY_SIZE, AT_THE_FIRST_SIZE, OURS, SAELENS, Size, make_trainer, take_step


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_every_sae_that_is_timed_takes_its_step_with_dead_latents_too() -> None:
    size = Size(16, 128, 4, 32)
    names = [*AT_EVERY_SIZE, *AT_THE_FIRST_SIZE]
    assert set(step_time.step_times(size, 1, names, 0.25)) == {"float32 encoder product", *names}
    trainer = make_trainer(OURS, size)
    take_step(trainer, torch.randn(32, 16), 0.25)
    assert trainer.n_forward_passes_since_fired[32:].max() <= 1
    assert set(step_time.inference_times(size, 1)) == {SAELENS, OURS}


def test_a_record_names_the_module_and_no_path_outside_the_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    started = f"{recording.ROOT}/experiments/speed/a.py"
    arguments = ["--out", f"{recording.ROOT}/build/a.json", "dataset_path=/elsewhere/text.jsonl", "lr=1e-3"]
    monkeypatch.setattr(sys, "argv", [started, *arguments])
    assert recording.command() == "python -m experiments.speed.a --out build/a.json dataset_path=text.jsonl lr=1e-3"
    assert len(recording.environment()["load_average"]) == 3


def test_numbers_of_a_sentence_are_replaced_wherever_its_lines_break() -> None:
    page = "It is 6.8 to 14.3\ntimes as fast (torch 2.15.0, 1,033 MiB)."
    found = retold(page, "{} to {} times as fast (torch {}, {} MiB)", ("3.8", "9.7", "2.16.1+cpu", "-5"))
    assert found == "It is 3.8 to 9.7\ntimes as fast (torch 2.16.1+cpu, -5 MiB)."
    with pytest.raises(ValueError, match="2 times; it needs it once"):
        retold("1 s, 2 s", "{} s", ("3",))
