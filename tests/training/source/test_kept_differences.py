"""Both models read a text once, and later epochs are its differences in another order."""

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from sae_lens_abstopk.diffs.half_runs import ReadOnceRun
from sae_lens_abstopk.model.check_pair import check_pair
from sae_lens_abstopk.model.model_pair import ModelPair
from sae_lens_abstopk.model.text_store import count_tokens
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.training.config.config_file import build_config
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.runner import DifferenceRun
from sae_lens_abstopk.training.source import kept_differences

QUIET = Console(quiet=True)


@pytest.fixture
def cfg(raw_config: dict[str, Any], tiny_adapter: Path, texts: Path, tmp_path: Path) -> TrainingConfig:
    short = tmp_path / "short.jsonl"
    short.write_text("".join(f"{line}\n" for line in texts.read_text().splitlines()[:24]))
    raw = raw_config | {"source": "model_difference", "adapter": str(tiny_adapter), "dataset_path": str(short)}
    raw |= {"sae": raw_config["sae"] | {"architecture": "batch_abstopk"}, "max_norm_multiple": 10, "perf_log_freq": 0}
    return build_config(raw)


def blocks(run: DifferenceRun, n: int) -> list[torch.Tensor]:
    iterator = run.source._iterate_filtered_activations()  # type: ignore[attr-defined]
    return [next(iterator) for _ in range(n)]


def epoch_of(cfg: TrainingConfig) -> tuple[int, int]:
    """Tokens of an epoch, and LM batches."""
    tokenizer = check_pair(cfg.pair_spec, cfg.text_spec, d_in=32)
    n = count_tokens(tokenizer, cfg.model_spec, cfg.text_spec, at_most=10**9)
    return n, n // (cfg.store_batch_size_prompts * cfg.context_size)


def test_an_epoch_is_read_once_and_then_shuffled(cfg: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    read, passes = ModelPair.activations, list[int]()
    monkeypatch.setattr(ModelPair, "activations", lambda *args: passes.append(1) or read(*args))
    n, n_batches = epoch_of(cfg)
    assert n == n_batches * 4 * 32
    found = blocks(ReadOnceRun(cfg, console=QUIET), 3 * n_batches)
    assert len(passes) == n_batches
    epochs = [torch.cat(found[start : start + n_batches]) for start in (0, n_batches, 2 * n_batches)]
    assert not torch.equal(epochs[1], epochs[0])
    assert not torch.equal(epochs[1], epochs[2])
    for each in epochs[1:]:
        torch.testing.assert_close(each.norm(dim=1).sort().values, epochs[0].norm(dim=1).sort().values)
    assert n_batches > kept_differences.NORM_CALIBRATION_BATCHES


def test_a_run_that_goes_on_serves_the_blocks_that_come_next(cfg: TrainingConfig) -> None:
    _, n_batches = epoch_of(cfg)
    whole = blocks(ReadOnceRun(cfg, console=QUIET), 2 * n_batches)
    for skipped in (2, n_batches + 1):
        run = ReadOnceRun(cfg, console=QUIET)
        run.source._skip(skipped)  # type: ignore[attr-defined]
        (found,) = blocks(run, 1)
        torch.testing.assert_close(found, whole[skipped])


def test_a_text_too_large_to_keep_is_read_again(cfg: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_differences, "KEPT_BYTES", 1000)
    _, n_batches = epoch_of(cfg)
    found = blocks(ReadOnceRun(cfg, console=QUIET), n_batches + 2)
    torch.testing.assert_close(found[n_batches], found[0])


def test_a_text_of_less_than_a_batch_is_refused(cfg: TrainingConfig) -> None:
    path = Path(cfg.dataset_path)
    path.write_text('{"text": "He"}\n' * 21)
    with pytest.raises(ConfigError, match="does not fill one batch"):
        ReadOnceRun(cfg, console=QUIET)
