"""Activations on disk: the same for the run that fills them, for those that read them, and after an interruption."""

import json
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.training import runner as runner_module
from sae_lens_abstopk.training.config.config_file import build_config
from sae_lens_abstopk.training.runner import TrainingRun
from sae_lens_abstopk.training.source import activation_cache
from sae_lens_abstopk.training.source.activation_cache import ActivationCache, CacheNotWrittenError
from tests.training.checkpoints.test_checkpoint import Usage
from tests.training.runs import run_of


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activation_cache, "SHARD_BYTES", 48)  # of what is numbered below, three blocks


def train(raw: dict[str, Any], output: Path, **changes: Any) -> TrainingRun:
    run = run_of(raw, output_path=str(output), perf_log_freq=0, **changes)
    run.run()
    return run


def test_runs_that_fill_and_that_read_a_cache_end_at_the_same_weights(
    raw_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = raw_config | {"activation_cache": str(tmp_path / "cache"), "max_norm_multiple": 1.2}
    filling = train(raw, tmp_path / "a")
    shards = sorted(path.name for path in (tmp_path / "cache").glob("*.safetensors"))
    assert len(shards) > 1
    monkeypatch.setattr("sae_lens.ActivationsStore.get_activations", lambda *_: pytest.fail("the model was run"))
    reading = train(raw, tmp_path / "b")
    assert torch.equal(filling.sae.W_dec, reading.sae.W_dec)
    assert reading.activations_store.max_norm == filling.activations_store.max_norm
    assert sorted(path.name for path in (tmp_path / "cache").glob("*.safetensors")) == shards


def test_a_longer_run_goes_on_where_the_cache_ends(raw_config: dict[str, Any], tmp_path: Path) -> None:
    raw = raw_config | {"max_norm_multiple": 1.2}
    train(raw, tmp_path / "short", activation_cache=str(tmp_path / "cache"))
    extended = train(raw, tmp_path / "a", activation_cache=str(tmp_path / "cache"), training_tokens=1280)
    whole = train(raw, tmp_path / "b", activation_cache=str(tmp_path / "other"), training_tokens=1280)
    assert torch.equal(extended.sae.W_dec, whole.sae.W_dec)


def test_without_a_cache_the_run_is_the_same_but_for_the_rounding(raw_config: dict[str, Any], tmp_path: Path) -> None:
    cached = train(raw_config, tmp_path / "a", activation_cache=str(tmp_path / "cache")).sae.W_dec
    plain = train(raw_config, tmp_path / "b").sae.W_dec
    torch.testing.assert_close(cached, plain, rtol=0.02, atol=0.02)
    assert not torch.equal(cached, plain)


def test_unshuffled_text_is_one_cache_for_every_seed(raw_config: dict[str, Any], tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    train(raw_config, tmp_path / "a", activation_cache=cache, shuffle=False, seed=1)
    n_shards = len(list((tmp_path / "cache").glob("*.safetensors")))
    train(raw_config, tmp_path / "b", activation_cache=cache, shuffle=False, seed=2)
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == n_shards
    with pytest.raises(ConfigError, match="holds other activations"):
        train(raw_config, tmp_path / "c", activation_cache=cache, shuffle=True, seed=2)


def numbered(n: int, start: int = 0) -> Iterator[torch.Tensor]:
    for i in range(start, n):
        yield torch.full((i % 3 + 1, 4), float(i))


def numbers(blocks: Iterator[torch.Tensor]) -> list[int]:
    return [int(block[0, 0]) for block in blocks]


@pytest.fixture
def cache(tmp_path: Path) -> ActivationCache:
    cache = ActivationCache(tmp_path / "cache", {"seed": 1})
    cache.begin(max_norm=1.0, skipped_batches=4)
    return cache


@pytest.mark.parametrize("start", [0, 2, 4, 7, 9])
def test_blocks_can_start_anywhere(cache: ActivationCache, start: int) -> None:
    list(islice(cache.blocks(lambda n: numbered(20, n)), 5))
    assert numbers(islice(cache.blocks(lambda n: numbered(20, n), start=start), 4)) == list(range(start, start + 4))


def test_what_was_written_before_a_crash_is_kept(cache: ActivationCache) -> None:
    def dies(n: int) -> Iterator[torch.Tensor]:
        yield from numbered(7, n)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(cache.blocks(dies))
    (cache.folder / "activations-00009.safetensors.partial").write_bytes(b"half")
    again = ActivationCache(cache.folder, {"seed": 1})
    assert [len(shard.rows) for shard in again.manifest.shards] == [3, 3, 1]
    assert numbers(again.blocks(lambda n: numbered(9, n))) == list(range(9))


def test_room_for_what_a_cache_lacks_is_asked_for_before_it_is_begun(
    raw_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    train(raw_config, tmp_path / "a", activation_cache=str(folder))
    whole = folder.rename(tmp_path / "whole")
    needed = 2 * 32 * (384 + 16 * 31)  # bytes x d_in x (training tokens + mixing buffer)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 0, needed - 1))
    with monkeypatch.context() as patched:
        patched.setattr(runner_module, "load_language_model", None)  # reading weights would fail
        with pytest.raises(ConfigError, match=r"activation_cache needs 56\.3 kB .* has 56\.3 kB free; free some"):
            train(raw_config, tmp_path / "b", activation_cache=str(folder))
    assert not folder.exists()
    train(raw_config, tmp_path / "b", activation_cache=str(whole))  # what is there needs no room
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 0, needed))
    train(raw_config, tmp_path / "c", activation_cache=str(folder))


@pytest.mark.parametrize("error", [SafetensorError("I/O error: no space left"), OSError(28, "no space left")])
def test_a_shard_that_cannot_be_written_stops_the_run_with_a_sentence_and_is_tried_once(
    cache: ActivationCache, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    list(cache.blocks(lambda n: numbered(3, n)))
    tries = []

    def full(_: Any, path: Path) -> None:
        tries.append(path)
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(activation_cache, "save_file", full)
    with pytest.raises(CacheNotWrittenError, match=r"could not be written \(.*no space left\); its earlier content"):
        list(cache.blocks(lambda n: numbered(20, n)))
    assert len(tries) == 1
    assert not list(cache.folder.glob("*.partial"))
    # what is left at the end of a run is no reason for it to fail
    with pytest.warns(UserWarning, match="could not be written"):
        list(cache.blocks(lambda n: numbered(5, n)))
    assert numbers(ActivationCache(cache.folder, {"seed": 1}).blocks(lambda n: numbered(3, n))) == [0, 1, 2]


def test_processes_fill_a_cache_one_after_the_other(cache: ActivationCache) -> None:
    other = ActivationCache(cache.folder, {"seed": 1})
    list(other.blocks(lambda n: numbered(4, n)))
    assert numbers(cache.blocks(lambda n: numbered(6, n))) == list(range(6))
    other.begin(max_norm=2.0, skipped_batches=8)
    assert (other.manifest.max_norm, other.manifest.skipped_batches) == (1.0, 4), "the first one decided"
    for fill in (lambda: list(other.blocks(numbered)), lambda: other.begin(max_norm=3.0, skipped_batches=0)):
        with FileLock(cache.folder / ".lock"), pytest.raises(ConfigError, match="filled by another process"):
            fill()


def test_a_model_that_was_trained_on_is_another_one(
    raw_config: dict[str, Any], tmp_path: Path, tiny_llama: Path
) -> None:
    model = shutil.copytree(tiny_llama, tmp_path / "model")
    raw = raw_config | {"model_name": str(model), "activation_cache": str(tmp_path / "cache")}
    train(raw, tmp_path / "a")
    assert not ActivationCache.of_run(build_config(raw)).is_new
    weights = model / "model.safetensors"
    shutil.copyfile(weights, tmp_path / "copy")
    shutil.copyfile(tmp_path / "copy", weights)
    assert not ActivationCache.of_run(build_config(raw)).is_new, "a copy is the same"
    tensors = load_file(weights)
    save_file({name: tensor + 1e-3 for name, tensor in tensors.items()}, weights, {"format": "pt"})
    with pytest.raises(ConfigError, match="holds other activations: model files is"):
        ActivationCache.of_run(build_config(raw))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x01"), "SHA-256"),
        (Path.unlink, "is missing"),
    ],
)
def test_a_damaged_shard_is_refused(cache: ActivationCache, damage: Any, problem: str) -> None:
    list(cache.blocks(lambda n: numbered(9, n)))
    damage(cache.folder / "activations-00001.safetensors")
    blocks = ActivationCache(cache.folder, {"seed": 1}).blocks(lambda n: numbered(12, n))
    assert numbers(islice(blocks, 3)) == [0, 1, 2]
    with pytest.raises(ConfigError, match=rf"activations-00001\.safetensors .*{problem}.*; delete .*, which the next"):
        next(blocks)


def test_damage_and_mix_ups_are_refused(cache: ActivationCache, tmp_path: Path) -> None:
    list(cache.blocks(lambda n: numbered(4, n)))
    with pytest.raises(ConfigError, match=r"holds other activations: seed is 1 there, 2 here\. Name another folder"):
        ActivationCache(cache.folder, {"seed": 2})
    with pytest.raises(ConfigError, match=r"adapter is 'not noted' there, 'a' here"):
        ActivationCache(cache.folder, {"seed": 1, "adapter": "a"})
    with pytest.raises(ConfigError, match=r"seed is 1 there, 'not noted' here"):
        ActivationCache(cache.folder, {})
    whole = json.loads((cache.folder / "activations.json").read_text())
    for content in (
        "{",
        "[]",
        json.dumps({"shards": [{}], "defined_by": {}}),
        json.dumps(whole | {"shards": [whole["shards"][0] | {"rows": 3}]}),
    ):
        (cache.folder / "activations.json").write_text(content)
        with pytest.raises(ConfigError, match=r"is missing or damaged .*delete this activation cache"):
            ActivationCache(cache.folder, {"seed": 1})
    with pytest.raises(ConfigError, match=r"no activations\.json\); name a new or empty folder"):
        ActivationCache(tmp_path, {"seed": 1})
