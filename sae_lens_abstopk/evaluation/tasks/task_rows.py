"""Read rows from files and from the Hub, and texts, labels and marked words from the columns of a row."""

import csv
import re
from collections.abc import Iterator, Mapping
from glob import escape
from pathlib import Path
from typing import Any

from datasets import Features, Value, load_dataset

from sae_lens_abstopk.evaluation.tasks.task_schema import RowSource
from sae_lens_abstopk.system.errors import ConfigError, errors_in, require_choice
from sae_lens_abstopk.system.files import HUB_NAME
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
SLOT = re.compile(r"\{([^{}\[\]]+)(?:\[([^{}\[\]]+)\])?\}")

Row = Mapping[str, Any]


def hub_rows(part: RowSource) -> Iterator[Row]:
    """Read the rows of one split of a Hub data set, never of a local folder with that name."""
    assert part.hub is not None
    with errors_in(f"hub={part.hub!r}, split={part.split!r}: ", " Or read files: load_task(..., local=PATH)."):
        if not HUB_NAME.fullmatch(part.hub) or Path(part.hub).exists():
            raise ConfigError("it must be the id of a data set, and not also name something in the current folder.")
        dataset = open_dataset(part.hub, name=part.config, split=part.split, streaming=False)
    for row in dataset:
        yield dict(row)


def file_rows(path: Path) -> list[Row]:
    """Read the rows of a .csv, .tsv (no quoting), .jsonl, .json, .parquet or .conllu (one row per sentence) file."""
    require_choice(f"{path}: the ending", path.suffix, ENDINGS)
    try:
        return list(_conllu(path) if path.suffix == ".conllu" else _read(path))
    except Exception as error:  # any error of datasets, pandas or pyarrow
        reason = f"{error or 'it is empty'}" if path.is_file() else "there is no such file"
        raise ConfigError(f"{path} cannot be read: {reason}; put it there, or load_task(..., local=PATH).") from error


def _read(path: Path) -> Iterator[Row]:
    reader, options = READERS[path.suffix]
    options = {"data_files": [escape(str(path))], "split": "train", "streaming": True, **options}
    if reader == "csv":
        # as text: the reader would read 007 as 7 and true as a boolean
        columns = [column for row in load_dataset(reader, nrows=1, **options) for column in row]
        if "__index_level_0__" in columns:
            raise ValueError("more fields in a row than in the header; check the header and the separators")
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


def column(row: Row, name: str, where: str) -> Any:
    """Return a column of a row; raise ConfigError with the existing columns if it is missing."""
    value = row.get(name)
    if value is None:
        raise ConfigError(f"{where}: no column {name!r}, or nothing in it; the columns are {', '.join(map(str, row))}.")
    return value


def filled_pattern(row: Row, pattern: str, where: str) -> str:
    """Return a column, or a pattern filled with columns: ``{prompt} {answer}``, ``{translation[en]}``."""
    if "{" not in pattern:
        pattern = f"{{{pattern}}}"
    if set("{}") & set(SLOT.sub("", pattern)):
        raise ConfigError(f"the pattern {pattern!r} is not understood; slots are {{column}} or {{column[part]}}.")

    def value(slot: re.Match[str]) -> str:
        found = column(row, slot[1], where)
        if slot[2] is not None:
            found = column(found if isinstance(found, Mapping) else {}, slot[2], f"{where}, column {slot[1]!r}")
        if isinstance(found, Mapping | list):
            raise ConfigError(f"{where}: {slot[0]} is a {type(found).__name__}, not text; use {{column[part]}}.")
        return str(found)

    return SLOT.sub(value, pattern)


def mapped_value(row: Row, name: str, names: Mapping[Any, str | None], key: str, where: str) -> str | None:
    """Look up, as text, the value of column ``name`` in ``names``, the key ``key`` of a task file."""
    value = None if name in row and row[name] is None else column(row, name, where)
    by_text = {str(k): v for k, v in names.items()}
    if str(value) not in by_text:
        unquoted = any(isinstance(k, bool) for k in names)
        hint = " Quote yes, no, true and false, which YAML reads as truth values." if unquoted else ""
        listed = ", ".join(by_text)
        raise ConfigError(f"{where}: {key} does not list the value {value!r} ({listed}); add it, or null for it.{hint}")
    return by_text[str(value)]


def with_extracted(row: Row, patterns: Mapping[str, re.Pattern[str]], where: str) -> Row:
    """Add the named groups of regular expressions, searched in a row's columns, as further columns."""
    more: dict[str, str | None] = {}
    for name, pattern in patterns.items():
        value = str(column(row, name, where))
        found = pattern.search(value)
        if found is None:
            raise ConfigError(f"{where}: {name}={value!r} does not match the pattern {pattern.pattern!r}.")
        more.update(found.groupdict())
    return {**row, **more}


def word_span(text: str, word: str, where: str) -> tuple[int, int] | None:
    """Return the span of ``word`` in ``text``, whole, else inside another (can|not); None if it is there twice."""
    whole = list(re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", text))
    found = whole or list(re.finditer(re.escape(word), text))
    if not found:
        raise ConfigError(f"{where}: the marked word {word!r} does not occur in {text!r}.")
    return found[0].span() if len(found) == 1 else None
