"""A second process is kept out of a run folder, and files are written whole or not at all."""

import errno
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.system.files import write_whole
from sae_lens_abstopk.system.folder_lock import require_free, run_folder_lock, run_locks
from sae_lens_abstopk.training.config.config_file import build_config
from sae_lens_abstopk.training.runner import TrainingRun
from sae_lens_abstopk.training.source.activation_cache import ActivationCache

FORKED = multiprocessing.get_context("fork")


def hold(folder: Path, held: Any) -> None:
    with run_folder_lock(folder):
        held.set()
        time.sleep(60)


def test_the_holder_is_named_until_it_is_killed(tmp_path: Path) -> None:
    held = FORKED.Event()
    process = FORKED.Process(target=hold, args=(tmp_path, held))
    process.start()
    assert held.wait(30)
    with (
        pytest.raises(ConfigError, match=rf"is being written by process {process.pid} on \S+ \(since 20"),
        run_folder_lock(tmp_path),
    ):
        pass
    process.kill()
    process.join()
    with run_folder_lock(tmp_path):
        assert f'"pid": {os.getpid()}' in (tmp_path / ".lock-holder").read_text()
    assert not (tmp_path / ".lock-holder").exists()
    with run_folder_lock(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()


def test_a_run_says_so_before_it_starts_and_leaves_a_strange_folder_alone(
    raw_config: dict[str, Any], tmp_path: Path
) -> None:
    folder = Path(raw_config["output_path"])
    with run_folder_lock(folder):
        (folder / ".lock-holder").unlink()
        with pytest.raises(ConfigError, match="is being written by another process; wait for it"):
            TrainingRun(build_config(raw_config), console=Console(quiet=True))
    require_free(tmp_path)
    assert not (tmp_path / ".lock").exists()


def test_two_runs_do_not_write_to_one_checkpoint_path(raw_config: dict[str, Any], tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    run = TrainingRun(build_config(raw_config | {"checkpoint_path": str(shared)}), console=Console(quiet=True))
    with (
        run_folder_lock(shared),
        pytest.raises(ConfigError, match=rf"^checkpoint_path='.*shared' is being written by process {os.getpid()}"),
    ):
        run.run()
    with run_locks(tmp_path, str(tmp_path)):
        pass


def test_a_holder_on_another_machine_may_have_left_its_lock_behind(tmp_path: Path) -> None:
    with run_folder_lock(tmp_path):
        (tmp_path / ".lock-holder").write_text('{"pid": 3, "host": "elsewhere", "since": "long ago"}')
        with (
            pytest.raises(
                ConfigError, match=r"3 on elsewhere \(since long ago; if it is gone, delete \S+/\.lock\); wait"
            ),
            run_folder_lock(tmp_path),
        ):
            pass


def test_a_file_system_without_locks_is_warned_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", no_locks)
    cache = ActivationCache(tmp_path / "cache", {})
    said = r"\.lock cannot be locked \(No locks available\), so nothing keeps another process"
    with pytest.warns(UserWarning, match=said):
        cache.begin(max_norm=None, skipped_batches=0)
    with pytest.warns(UserWarning, match=said):
        assert list(cache.blocks(lambda _: iter([torch.zeros(2, 3)])))
    with pytest.warns(UserWarning, match="cannot be locked"), run_folder_lock(tmp_path / "run"):
        pass


def test_what_was_there_stays_where_writing_is_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.json"
    write_whole(path, "old")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    write_whole(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
