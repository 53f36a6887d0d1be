"""Rows with columns: from files and from the Hub, and what a task file makes of one row."""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from sae_lens_abstopk.evaluation.tasks.task_schema import RowSource
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.text.documents import open_dataset

ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".conllu")
SLOT = re.compile(r"\{([^{}\[\]]+)(?:\[([^{}\[\]]+)\])?\}")
# the csv module refuses a field of more than 131,072 characters unless it is told otherwise
LONGEST_FIELD = 2**31 - 1

Row = Mapping[str, Any]


def hub_rows(part: RowSource) -> Iterator[Row]:
    """The rows of one split of a Hub data set; nothing on this machine is read, whatever it is called."""
    assert part.hub is not None
    try:
        validate_repo_id(part.hub)
    except HFValidationError as error:
        raise ConfigError(f"hub={part.hub!r} is no id of a data set on the Hub: {error}") from None
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
    """The rows of a .csv, .tsv (no quoting), .jsonl, .json (a list) or .conllu (one row a sentence) file."""
    if path.suffix not in ENDINGS:
        raise ConfigError(f"{path}: files of rows end in {', '.join(ENDINGS)}.")
    if not path.is_file():
        raise ConfigError(f"{path}: no such file.")
    limit_before = csv.field_size_limit(LONGEST_FIELD)
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = list(_parsed(text, path.suffix))
    except (UnicodeDecodeError, csv.Error, json.JSONDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read as {path.suffix[1:]}: {error}.") from None
    finally:
        csv.field_size_limit(limit_before)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping) or None in row:
            raise ConfigError(f"{path}, row {number}: not a row of named columns; check the header and the separators.")
    if not rows:
        raise ConfigError(f"{path} has no rows.")
    return rows


def _parsed(text: str, ending: str) -> Iterator[Any]:
    if ending == ".csv":
        yield from csv.DictReader(io.StringIO(text, newline=""))
    elif ending == ".tsv":
        yield from csv.DictReader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    elif ending == ".jsonl":
        yield from (json.loads(line) for line in text.split("\n") if line.strip())
    elif ending == ".json":
        content = json.loads(text)
        yield from content if isinstance(content, list) else [content]
    else:
        yield from _conllu(text)


def _conllu(text: str) -> Iterator[dict[str, str]]:
    """The comments of each sentence as columns, spaces as underscores: text, sent_id, newdoc_id, ..."""
    document: dict[str, str] = {}
    for block in re.split(r"\n\s*\n", text):
        comments = dict(re.findall(r"^# ([\w ]+?) = (.*)$", block, re.MULTILINE))
        comments = {key.replace(" ", "_"): value.strip() for key, value in comments.items()}
        if "newdoc_id" in comments:
            document = {"newdoc_id": comments["newdoc_id"]}
        if "text" in comments:
            yield {**document, **comments}


def column(row: Row, name: str, where: str) -> Any:
    """A column of a row, or ConfigError with the columns that there are."""
    value = row.get(name)
    if value is None:
        raise ConfigError(f"{where}: no column {name!r}, or nothing in it; the columns are {', '.join(map(str, row))}.")
    return value


def pattern(row: Row, text: str, where: str) -> str:
    """A column by its name, or a pattern such as ``{prompt} {answer}`` or ``{translation[en]}``."""
    if "{" not in text:
        return _written(column(row, text, where), text, where)
    if set("{}") & set(SLOT.sub("", text)):
        raise ConfigError(f"the pattern {text!r} is not understood; slots are {{column}} or {{column[part]}}.")

    def value(slot: re.Match[str]) -> str:
        found = column(row, slot[1], where)
        if slot[2] is None:
            return _written(found, slot[1], where)
        if not isinstance(found, Mapping):
            raise ConfigError(
                f"{where}: the column {slot[1]!r} holds {type(found).__name__}, which has no [{slot[2]}]."
            )
        return _written(column(found, slot[2], f"{where}, column {slot[1]!r}"), slot[2], where)

    return SLOT.sub(value, text)


def _written(value: Any, name: str, where: str) -> str:
    """A value as text: a string, a number or a truth value."""
    if not isinstance(value, str | int | float):
        part = (
            f"name a part of it, as in {{{name}[{next(iter(value))}]}}" if isinstance(value, Mapping) and value else ""
        )
        raise ConfigError(
            f"{where}: the column {name!r} holds {type(value).__name__}, not text; {part or 'name a column of text'}."
        )
    return str(value)


def extracted(row: Row, patterns: Mapping[str, str], where: str) -> Row:
    """The row with the named groups of regular expressions, searched in its columns, as further columns."""
    more: dict[str, str | None] = {}
    for name, regex in patterns.items():
        value = str(column(row, name, where))
        found = re.search(regex, value)
        if found is None:
            raise ConfigError(
                f"{where}: the column {name!r} holds {value!r}, which the pattern {regex!r} does not match."
            )
        more.update(found.groupdict())
    return {**row, **more}


def word_span(text: str, word: str, where: str) -> tuple[int, int] | None:
    """
    The characters of ``word`` in ``text``, as a whole word, else as a part of one (can|not).

    None where it stands there several times, as nothing says which is meant.
    """
    whole = list(re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", text))
    found = whole or list(re.finditer(re.escape(word), text))
    if not found:
        raise ConfigError(f"{where}: the marked word {word!r} does not stand in {text!r}.")
    return found[0].span() if len(found) == 1 else None
