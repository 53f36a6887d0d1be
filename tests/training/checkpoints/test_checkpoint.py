"""Checkpoint folders are whole or not there."""

import contextlib
import os
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.training import runner as runner_module
from sae_lens_abstopk.training.checkpoints import checkpoint as checkpoint_module
from sae_lens_abstopk.training.checkpoints.checkpoint import (
    CheckpointError,
    all_at_once,
    checkpoints,
    damage,
    new_checkpoint,
    newest_checkpoint,
)
from sae_lens_abstopk.training.checkpoints.run_checkpoints import checkpoint_bytes
from tests.training.runs import run_of

Usage = namedtuple("Usage", "total used free")


def write(folder: Path, step: int = 1, text: str = "numbers") -> None:
    with new_checkpoint(folder, step=step) as partial:
        (partial / "state.json").write_text(text)
        (partial / "topk").mkdir()
        (partial / "topk" / "weights").write_text("more")


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda folder: (folder / "state.json").unlink(), "state.json is missing"),
        (lambda folder: (folder / "state.json").write_text("numb"), "state.json has 4 bytes instead of 7"),
        (lambda folder: (folder / "topk" / "weights").write_text("less"), "topk/weights is not what was written"),
        (lambda folder: (folder / "checkpoint.json").unlink(), "it has no checkpoint.json"),
        (lambda folder: (folder / "checkpoint.json").write_text('{"files": ['), "its checkpoint.json cannot be read"),
        (lambda folder: (folder / "checkpoint.json").write_text("[]"), "its checkpoint.json cannot be read"),
    ],
)
def test_damage_is_found_and_the_one_before_is_taken(tmp_path: Path, harm: Any, problem: str) -> None:
    for tokens in (64, 128, 1024):
        write(tmp_path / str(tokens))
    harm(tmp_path / "1024")
    found, torn = newest_checkpoint(tmp_path)
    assert found == tmp_path / "128"
    assert list(torn) == [tmp_path / "1024"]
    assert torn[tmp_path / "1024"].startswith(problem)


def test_what_ends_the_writing_leaves_the_old_one_and_from_some_point_on_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = []
    for fails_at in range(12):
        root, syncs = tmp_path / str(fails_at), iter(range(fails_at))
        write(root / "64")

        def dies(_: int, syncs: Iterator[int] = syncs) -> None:
            if next(syncs, None) is None:
                raise KeyboardInterrupt

        with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
            patched.setattr(os, "fsync", dies)
            write(root / "128")
        found, torn = newest_checkpoint(root)
        assert torn == {}
        assert not list(root.glob(".partial-*"))
        newest.append(int(found.name))
    assert newest == sorted(newest)
    assert set(newest) == {64, 128}


def test_a_full_disk_is_said_in_a_sentence_and_what_was_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "64")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_module, "sync", full)
    with pytest.raises(CheckpointError, match=r"128 could not be written \(No space left on device\); earlier ones"):
        write(tmp_path / "128")
    assert [path.name for path in tmp_path.iterdir()] == ["64"]
    assert damage(tmp_path / "64") is None


def test_files_move_together_and_the_last_one_last(tmp_path: Path) -> None:
    (tmp_path / ".partial-files").mkdir()  # of a process that was killed
    with all_at_once(tmp_path, last="a") as staging:
        for name in ("a", "b"):
            (staging / name).write_text(name)
        assert not (tmp_path / "b").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert (tmp_path / "a").stat().st_ctime_ns >= (tmp_path / "b").stat().st_ctime_ns


def test_room_is_asked_for_before_the_run_and_before_each_checkpoint(
    raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 10**12
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**13, 0, free))
    run = run_of(raw_config, checkpoint_freq=2, perf_log_freq=0)

    def fills_up(*_: Any, **__: Any) -> None:
        nonlocal free
        free = 1000

    monkeypatch.setattr("sae_lens_abstopk.training.checkpoints.run_checkpoints.keep_newest", fills_up)
    with pytest.raises(CheckpointError, match=r"a checkpoint needs 1\.\d MB .* has 1\.0 kB free; the last one"):
        run.run()
    assert [path.name for path in (run.output / "checkpoints").iterdir()] == ["128"]
    assert damage(run.output / "checkpoints" / "128") is None


def test_room_is_asked_for_all_that_the_run_leaves_and_the_oldest_makes_room_for_the_newest(
    raw_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    often = {"checkpoint_freq": 1, "perf_log_freq": 0}
    for room, changes, sentence in (
        (1000, {"checkpoint_freq": 0}, r"needs 17\.\d kB .* another output_path"),
        (
            1000,
            {"save_final_checkpoint": True},
            r"needs 1\.\d MB .* lower checkpoints_kept=3, .* save_final_ch",
        ),
        (4 * 2**20, often, r"needs 4\.\d MB"),  # the room is more than one takes
    ):
        with monkeypatch.context() as patched:
            patched.setattr(shutil, "disk_usage", lambda _, room=room: Usage(10**13, 0, room))
            patched.setattr(runner_module, "load_language_model", None)  # reading weights would fail
            with pytest.raises(ConfigError, match=f"what the run saves {sentence}"):
                run_of(raw_config, **changes)
    assert not Path(raw_config["output_path"]).exists()
    run = run_of(raw_config, **often)
    root = run.output / "checkpoints"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**13, 0, 10**9 * (len(checkpoints(root)) < 2)))
    run.run()
    assert sorted(path.name for path in root.iterdir()) == ["256", "320"]


def test_the_room_that_is_asked_for_is_what_a_checkpoint_takes(raw_config: dict[str, Any]) -> None:
    wide = {"sae": raw_config["sae"] | {"d_sae": 8192}, "companions": {"topk": {"architecture": "topk"}}}
    run = run_of(raw_config | wide | {"checkpoint_freq": 4, "perf_log_freq": 0})
    run.run()
    taken = sum(path.stat().st_size for path in (run.output / "checkpoints").rglob("*") if path.is_file())
    assert taken <= checkpoint_bytes(run.cfg, run.saes) <= taken + 2**21
