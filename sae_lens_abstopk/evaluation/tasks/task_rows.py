"""Read rows with columns from files and from the Hub."""

import csv
import re
from collections.abc import Iterator, Mapping
from glob import escape
from pathlib import Path
from typing import Any

from datasets import Features, Value, load_dataset
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from sae_lens_abstopk.evaluation.tasks.task_schema import RowSource
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.text.documents import open_dataset

READERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".csv": ("csv", {"na_filter": False}),
    ".tsv": ("csv", {"na_filter": False, "sep": "\t", "quoting": csv.QUOTE_NONE}),
    ".jsonl": ("json", {}),
    ".json": ("json", {}),
    ".parquet": ("parquet", {}),
}
"""Reader in ``datasets`` for each kind of file, with options."""
ENDINGS = (*READERS, ".conllu")

Row = Mapping[str, Any]


def hub_rows(part: RowSource) -> Iterator[Row]:
    """Read the rows of one split of a Hub data set, never of a local folder with that name."""
    assert part.hub is not None
    try:
        validate_repo_id(part.hub)
    except HFValidationError as error:
        raise ConfigError(f"hub={part.hub!r} is not the id of a Hub data set: {error}") from None
    if Path(part.hub).exists():
        raise ConfigError(
            f"hub={part.hub!r} names something in the current folder too; change to another folder, or read files: "
            "load_task(..., local=PATH)."
        )
    try:
        dataset = open_dataset(part.hub, name=part.config, split=part.split, streaming=False)
    except ConfigError as error:
        raise ConfigError(
            f"hub={part.hub!r}, split={part.split!r}: {error} Or read files: load_task(..., local=PATH)."
        ) from error
    for row in dataset:
        yield dict(row)


def file_rows(path: Path) -> list[Row]:
    """Read the rows of a .csv, .tsv (no quoting), .jsonl, .json, .parquet or .conllu (one row per sentence) file."""
    if path.suffix not in ENDINGS:
        raise ConfigError(f"{path}: files of rows end in {', '.join(ENDINGS)}.")
    try:
        rows = list(_conllu(path) if path.suffix == ".conllu" else _read(path))
    except ConfigError:
        raise
    except Exception as error:  # any error of datasets, pandas or pyarrow
        raise ConfigError(f"{path} cannot be read as {path.suffix[1:]}: {error or 'it is empty'}.") from error
    if not rows:
        raise ConfigError(f"{path} has no rows.")
    return rows


def _read(path: Path) -> Iterator[Row]:
    reader, options = READERS[path.suffix]
    options = {"data_files": [escape(str(path))], "split": "train", "streaming": True, **options}
    if reader == "csv":
        # as text: the reader would read 007 as 7 and true as a boolean
        columns = [column for row in load_dataset(reader, nrows=1, **options) for column in row]
        if "__index_level_0__" in columns:
            raise ConfigError(f"{path}: more fields in a row than in the header; check the header and the separators.")
        options["features"] = Features({column: Value("string") for column in columns})
    yield from load_dataset(reader, **options)


def _conllu(path: Path) -> Iterator[Row]:
    """Return the comments of each sentence as columns, with underscores: text, sent_id, newdoc_id, ..."""
    document: dict[str, str] = {}
    for block in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")):
        comments = dict(re.findall(r"^# ([\w ]+?) = (.*)$", block, re.MULTILINE))
        comments = {key.replace(" ", "_"): value.strip() for key, value in comments.items()}
        if "newdoc_id" in comments:
            document = {"newdoc_id": comments["newdoc_id"]}
        if "text" in comments:
            yield {**document, **comments}
