"""Work on rows whose result is Parquet: one file, or a folder of parts, each of which is there whole or not at all."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq

from sae_lens_abstopk.embeddings.row_files import RowFile
from sae_lens_abstopk.system.errors import ConfigError, require_distinct, require_range
from sae_lens_abstopk.system.files import whole_file
from sae_lens_abstopk.system.provenance import __version__
from sae_lens_abstopk.system.terminal import PassProgress
from sae_lens_abstopk.text.text_files import RECORD, record_of

PART_NAME = "part-{number:05d}-of-{total:05d}.parquet"


@dataclass(frozen=True)
class Work:
    """A computation on each block of rows."""

    rows: RowFile
    reads: str
    """Column that is computed on."""
    keep: tuple[str, ...]
    """Columns that are copied."""
    makes: tuple[pa.Field, ...]
    """Columns that are made."""
    record: dict[str, Any]
    """Facts for the metadata: two parts of one output have the same."""
    make: Callable[[pa.Array, int], list[pa.Array]]
    """Compute the made columns from a block of ``reads`` and the number of its first row."""

    def __post_init__(self) -> None:
        self.rows.require_columns(self.keep)
        made = [field.name for field in self.makes]
        require_distinct("the output's column", [*made, *self.keep], remedy="leave it out of --keep")

    def schema(self, rows: range) -> pa.Schema:
        """Return the schema of the file of ``rows``, with its record."""
        record = self.record | {"rows": [rows.start, rows.stop], "of_rows": self.rows.n_rows, "version": __version__}
        fields = [*(self.rows.schema.field(name) for name in self.keep), *self.makes]
        return pa.schema(fields, {RECORD: json.dumps(record).encode()})


@dataclass(frozen=True)
class Shard:
    """Share ``number``, from 1, of ``total`` equal shares of consecutive rows."""

    number: int
    total: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``I/N``; raise a :class:`ConfigError` unless 1 <= I <= N."""
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ConfigError(f"shard={text!r} must be I/N with I from 1 to N, such as 1/8 to 8/8.")
        return cls(int(found[1]), int(found[2]))

    @property
    def file_name(self) -> str:
        """Name of its file in the output folder."""
        return PART_NAME.format(number=self.number, total=self.total)

    def rows(self, n_rows: int) -> range:
        """Return the rows of this share."""
        return range(n_rows * (self.number - 1) // self.total, n_rows * self.number // self.total)


class Written(NamedTuple):
    """A result on disk."""

    path: Path
    n_rows: int
    n_bytes: int
    n_made: int
    """Rows computed now; those of parts that were there already do not count."""
    n_empty: int
    """Empty texts among the rows computed now."""


def write_rows(work: Work, rows: range, path: Path, on_progress: PassProgress | None = None) -> int:
    """Compute ``rows`` and write them to ``path``, a row group a block; return the number of empty texts."""
    schema, done, n_empty = work.schema(rows), rows.start, 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial, parquet_writer(partial, schema, work.makes) as writer:
        for table in work.rows.read(rows, list(dict.fromkeys([work.reads, *work.keep]))):
            block = table.column(work.reads).combine_chunks()
            kept = [table.column(name) for name in work.keep]
            writer.write_table(pa.table([*kept, *work.make(block, done)], schema=schema))
            done, n_empty = done + len(table), n_empty + _count_empty(block)
            if on_progress is not None:
                on_progress(done - rows.start, len(rows))
    return n_empty


def missing_parts(work: Work, shards: list[Shard], folder: Path) -> list[Shard]:
    """
    Return the shards whose file is not yet in ``folder``, which is made.

    Raises:
        ConfigError: the folder holds anything but parts of the same output, or there are more shards than rows.
    """
    total, n_rows = shards[0].total, work.rows.n_rows
    require_range("shards", total, at_most=n_rows, remedy=f", the rows of {work.rows.name}")
    folder.mkdir(parents=True, exist_ok=True)
    names = {Shard(number, total).file_name for number in range(1, total + 1)}
    for path in sorted(folder.iterdir()):
        if path.name not in names and not path.name.startswith("."):
            raise ConfigError(
                f"out={str(folder)!r} holds {path.name}, which is not one of {total} parts; give another."
            )
    there = [shard for shard in shards if (folder / shard.file_name).exists()]
    for shard in there:
        path, schema = folder / shard.file_name, work.schema(shard.rows(n_rows))
        if not _same_output(pq.read_schema(path), schema):
            raise ConfigError(f"{path} was made from another source, model or SAE; give another --out, or delete it.")
    return [shard for shard in shards if shard not in there]


def parquet_writer(path: Path, schema: pa.Schema, made: Sequence[pa.Field]) -> pq.ParquetWriter:
    """Open a file to write; lists of numbers in the columns ``made`` are stored by difference or by byte."""
    # without these encodings, codes took a half more space, and more time
    encodings = {pa.float32(): "BYTE_STREAM_SPLIT", pa.int32(): "DELTA_BINARY_PACKED"}
    kinds = {f"{field.name}.list.element": field.type.value_type for field in made}
    options: Any = {
        "compression": "zstd",
        "use_dictionary": [name for name in schema.names if name not in {field.name for field in made}],
        "column_encoding": {name: encodings[kind] for name, kind in kinds.items() if kind in encodings},
    }
    return pq.ParquetWriter(path, schema, **options)


def _count_empty(block: pa.Array) -> int:
    """Count empty texts; 0 for other columns."""
    is_text = pa.types.is_string(block.type) or pa.types.is_large_string(block.type)
    return sum(not (text or "").strip() for text in block.to_pylist()) if is_text else 0


def _same_output(there: pa.Schema, wanted: pa.Schema) -> bool:
    records = [{**record_of(schema), "version": None} for schema in (there, wanted)]
    return records[0] == records[1] and there.equals(wanted)
