"""The local files of a text, and their formats."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets.data_files import SPLIT_KEYWORDS

from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.files import reading, sampled_digest

FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".txt": "text", ".csv": "csv"}
COMPRESSED = (".gz", ".zst")
RECORD = b"sae_lens_abstopk"
"""Key of the schema's metadata under which a Parquet file of this package says what it is, as JSON."""
ARRAYS = (".npy", ".safetensors")
"""Endings of files of vectors."""
TextFiles = list[list[str | int]]


def text_files(path: str) -> TextFiles:
    """Return name, size and digest of each local file of a data set; an empty list for a Hub data set."""
    text = Path(path)
    if was_saved(text):
        states = {state.parent: json.loads(state.read_text(encoding="utf-8")) for state in text.rglob("state.json")}
        files = [folder / entry["filename"] for folder, state in states.items() for entry in state["_data_files"]]
    else:
        files = [file for file in files_of(text) if format_of(file) or file.suffix in ARRAYS]
    return [[file.name, file.stat().st_size, sampled_digest(file)] for file in sorted(files)]


def same_text_files(then: Any, now: TextFiles, *, digests: bool = True) -> bool:
    """Compare two results of :func:`text_files`, by digest where both have one (earlier versions did not)."""
    if not isinstance(then, list) or len(then) != len(now):
        return False
    n = 3 if digests else 2
    return all(list(a[:n]) == b[: len(a[:n])] for a, b in zip(then, now, strict=True))


def was_saved(path: Path) -> bool:
    """Return whether the folder was written by ``save_to_disk`` of datasets."""
    files = {file.name for file in path.iterdir()} if path.is_dir() else set()
    return "dataset_dict.json" in files or {"state.json", "dataset_info.json"} <= files


def local_files(path: Path) -> tuple[str, list[str]]:
    """Return the datasets builder for a file or folder, and its files of one format and split, or raise an error."""
    files = [file for file in files_of(path) if format_of(file)]
    if not files:
        raise ConfigError(
            f"dataset_path={str(path)!r} holds no text; known endings: {', '.join(FORMATS)} (also .gz and .zst)."
        )
    formats = sorted({str(format_of(file)) for file in files})
    splits = {str(split): str(file) for file in reversed(files) for split in _splits_named_in(file, path)}
    mixed = formats if len(formats) > 1 else sorted(set(splits.values()))
    if len(mixed) > 1:
        raise ConfigError(
            f"dataset_path={str(path)!r} mixes formats or splits ({', '.join(mixed)}); give a folder with one of them."
        )
    if formats == ["parquet"] and path.is_dir():
        _require_all_parts(path, files)
    return formats[0], [str(file) for file in files]


def record_of(schema: pa.Schema) -> dict[str, Any]:
    """Return what a Parquet file of this package says of itself; empty if it was not written here."""
    return json.loads((schema.metadata or {}).get(RECORD, b"{}"))


def _require_all_parts(folder: Path, files: Sequence[Path]) -> None:
    """Raise a ConfigError if a part of the rows that `abstopk embed` or `encode` write into a folder is missing."""
    expected = n_rows = 0
    for file in files:
        with reading(file, "replace it"):
            record = record_of(pq.read_schema(file))
        if "of_rows" not in record:
            return
        n_rows = record["of_rows"]
        if record["rows"][0] != expected:
            break
        expected = record["rows"][1]
    if expected != n_rows:
        raise ConfigError(f"{folder}: the part that begins with row {expected:,} is missing; make that share again.")


def _splits_named_in(file: Path, folder: Path) -> list[Any]:
    """Return the splits that datasets recognises in a file name, as in a copy of a Hub data set."""
    words = set(re.split(r"[^a-z]+", str(file.relative_to(folder)).lower()))
    return [split for split, keywords in SPLIT_KEYWORDS.items() if not words.isdisjoint(keywords)]


def files_of(path: Path) -> list[Path]:
    """Return the file itself, or the visible files below a folder; follow links, each folder once."""
    if path.is_file():
        return [path]
    files: list[Path] = []
    seen: set[str] = set()
    for folder, inner, names in os.walk(path, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            inner.clear()
            continue
        seen.add(real)
        inner[:] = [name for name in inner if not name.startswith(".")]
        files += [Path(folder) / name for name in names if not name.startswith(".")]
    return sorted(file for file in files if file.is_file())


def format_of(file: Path) -> str | None:
    """Return the datasets builder for a file; None if the file is not text."""
    return FORMATS.get(Path(file.stem).suffix if file.suffix in COMPRESSED else file.suffix)


def where_not_utf8(path: Path) -> str:
    """Return ``" in FILE"`` for the first text file that is not UTF-8, else an empty text."""
    for file in files_of(path):
        if file.suffix == ".txt":
            try:
                file.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                return f" in {file}"
    return ""
