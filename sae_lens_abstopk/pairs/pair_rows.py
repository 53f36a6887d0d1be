"""Rows of a data set of pairs as they stand in it, and files of such rows."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.text.documents import text_errors
from sae_lens_abstopk.text.text_files import local_files, was_saved

Row = str | dict[str, Any]
"""Values by column, or a line of .jsonl, which other libraries would change: dates, keys that are missing."""
Write = Callable[[Sequence[Row]], None]
ENDINGS = (".jsonl", ".json", ".csv", ".parquet")
"""Endings of the files that are written."""


def values_of(row: Row) -> dict[str, Any]:
    """Return the values of a row by column."""
    return json.loads(row) if isinstance(row, str) else row


def with_values(row: Row, values: dict[str, Any]) -> Row:
    """Return the row with other values, as a line in the style of the old one if it is a line."""
    return json.dumps(values, ensure_ascii=row.isascii()) + "\n" if isinstance(row, str) else values


def source_rows(path: str, dataset: Dataset, ending: str) -> Iterator[Row]:
    """Yield the rows of the data set at ``path``, opened as ``dataset``, for a file with this ending."""
    local = Path(path)
    # Parquet needs the types that the data set has
    if local.exists() and not was_saved(local) and ending != ".parquet":
        files = local_files(local)[1]
        read = _lines if all(".jsonl" in Path(file).suffixes for file in files) else _objects
        if all(set(Path(file).suffixes) & {".jsonl", ".json"} for file in files):
            with text_errors(path):
                if sum(1 for _ in read(files)) == len(dataset):
                    yield from read(files)
                    return
    with text_errors(path):
        yield from map(dict, dataset)


def _lines(files: list[str]) -> Iterator[Row]:
    for file in files:
        with _open_text(file) as lines:
            yield from (line for line in lines if line.strip())


def _objects(files: list[str]) -> Iterator[Row]:
    """Yield the objects of files that are an array; of any other, nothing."""
    for file in files:
        with _open_text(file) as opened:
            try:
                found = json.load(opened)
            except json.JSONDecodeError:  # such as several objects after one another
                return
        yield from found if isinstance(found, list) else ()


def _open_text(file: str) -> io.TextIOWrapper:
    """Open a text file, also a compressed one, and keep its line ends."""
    return io.TextIOWrapper(pa.input_stream(file), encoding="utf-8-sig", newline="")


@contextmanager
def row_writer(path: Path, ending: str, dataset: Dataset) -> Iterator[Write]:
    """Yield a function that appends rows to a new file in the format of ``ending``; the columns are the data set's."""
    if ending == ".parquet":
        with pq.ParquetWriter(path, dataset.features.arrow_schema) as parquet:
            yield lambda rows: parquet.write_table(
                Dataset.from_list([values_of(row) for row in rows], features=dataset.features).data.table
            )
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        if ending == ".csv":
            table = csv.DictWriter(file, dataset.column_names, lineterminator="\n")
            table.writeheader()
            yield lambda rows: table.writerows(map(_flat, rows))
        elif ending == ".jsonl":
            yield lambda rows: file.writelines(_line(row) for row in rows)
        else:
            file.write("[")
            before = chain(["\n"], repeat(",\n"))
            yield lambda rows: file.writelines(next(before) + _json(values_of(row)) for row in rows)
            file.write("\n]\n")


def _line(row: Row) -> str:
    if isinstance(row, str):
        return row if row.endswith("\n") else f"{row}\n"
    return f"{_json(row)}\n"


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> str:
    """Return dates and times as text."""
    if not hasattr(value, "isoformat"):
        raise ConfigError(f"a column holds {type(value).__name__}, which JSON cannot hold; write .parquet.")
    return value.isoformat()


def _flat(row: Row) -> dict[str, Any]:
    values = values_of(row)
    if nested := [column for column, value in values.items() if isinstance(value, dict | list)]:
        raise ConfigError(f"the column {nested[0]!r} holds lists, which CSV cannot hold; write .jsonl or .parquet.")
    return values
