"""Which local files are read as text, and as what."""

import json
import os
import re
from pathlib import Path
from typing import Any

from datasets.data_files import SPLIT_KEYWORDS

from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.files import sampled_digest

FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".txt": "text"}
COMPRESSED = (".gz", ".zst")


TextFiles = list[list[str | int]]


def text_files(path: str) -> TextFiles:
    """Name, size and a digest of each local file that is read for a dataset path; none for a Hub dataset."""
    text = Path(path)
    if was_saved(text):
        states = {state.parent: json.loads(state.read_text(encoding="utf-8")) for state in text.rglob("state.json")}
        files = [folder / entry["filename"] for folder, state in states.items() for entry in state["_data_files"]]
    else:
        files = [file for file in files_of(text) if format_of(file)]
    return [[file.name, file.stat().st_size, sampled_digest(file)] for file in sorted(files)]


def same_text_files(then: Any, now: TextFiles, *, digests: bool = True) -> bool:
    """Whether these are the files of then; ``digests``, which earlier versions did not note, count where there are two."""
    if not isinstance(then, list) or len(then) != len(now):
        return False
    n = 3 if digests else 2
    return all(list(a[:n]) == b[: len(a[:n])] for a, b in zip(then, now, strict=True))


def was_saved(path: Path) -> bool:
    """Whether a folder is one that ``save_to_disk`` of datasets has written."""
    files = {file.name for file in path.iterdir()} if path.is_dir() else set()
    return "dataset_dict.json" in files or {"state.json", "dataset_info.json"} <= files


def local_files(path: Path) -> tuple[str, list[str]]:
    """
    The builder of datasets that reads a file or the files of a folder, and these.

    Raises:
        ConfigError: there is no text, or of several formats or splits.
    """
    by_builder: dict[str, list[str]] = {}
    for file in files_of(path):
        if builder := format_of(file):
            by_builder.setdefault(builder, []).append(str(file))
    if not by_builder:
        raise ConfigError(
            f"dataset_path={str(path)!r} holds no text; known endings: {', '.join(FORMATS)} (also {' and '.join(COMPRESSED)})."
        )
    if len(by_builder) > 1:
        raise ConfigError(
            f"dataset_path={str(path)!r} mixes formats ({', '.join(sorted(by_builder))}); give a folder with one of them."
        )
    ((builder, files),) = by_builder.items()
    _require_one_split(path, files)
    return builder, files


def _require_one_split(path: Path, files: list[str]) -> None:
    """Refuse a folder whose files have words in their names by which datasets knows several splits, as a copy of a Hub data set."""
    first: dict[str, str] = {}
    for file in files:
        words = re.split(r"[^a-z]+", str(Path(file).relative_to(path)).lower())
        for split, keywords in SPLIT_KEYWORDS.items():
            if not set(words).isdisjoint(keywords):
                first.setdefault(str(split), file)
    if len(set(first.values())) > 1:
        raise ConfigError(
            f"dataset_path={str(path)!r} has files of several splits ({', '.join(first.values())}), and all would be read; give a "
            "folder with those of one split."
        )


def files_of(path: Path) -> list[Path]:
    """The file itself, or those of a folder; hidden ones are no text."""
    if path.is_file():
        return [path]
    files, seen = [], set()
    for folder, inner, names in os.walk(path, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:  # a link led back here
            inner.clear()
            continue
        seen.add(real)
        inner[:] = [name for name in inner if not name.startswith(".")]
        files += [Path(folder) / name for name in names if not name.startswith(".")]
    return sorted(file for file in files if file.is_file())


def format_of(file: Path) -> str | None:
    """The builder of datasets that reads a file; None for one that is no text."""
    return FORMATS.get(Path(file.stem).suffix if file.suffix in COMPRESSED else file.suffix)
