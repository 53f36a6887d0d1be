"""Rows of files in order, a block at a time, none of them read into memory: as tables, and as vectors."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Dataset
from jaxtyping import Float
from rich.console import Console
from torch import Tensor

from sae_lens_abstopk.model.model_spec import require_device, resolve_device
from sae_lens_abstopk.system.errors import ConfigError, require_choice, require_given
from sae_lens_abstopk.text.documents import open_dataset, text_errors
from sae_lens_abstopk.text.text_files import local_files, was_saved
from sae_lens_abstopk.vectors.embedding import Embedder, embedded
from sae_lens_abstopk.vectors.texts import require_text_column
from sae_lens_abstopk.vectors.vector_spec import ANY_COLUMN, VectorSpec
from sae_lens_abstopk.vectors.vectors import Vectors, only_column_of_vectors, open_vectors, rows_of_arrow

# rows read, computed and written at a time
ROW_BLOCK = 8192
VECTOR = "vector"
"""Column of vectors in the files written here, and of an array."""


@dataclass(frozen=True)
class RowFile:
    """Rows of a file or data set, as tables of Arrow."""

    name: str
    """Name in errors."""
    schema: pa.Schema
    n_rows: int
    read: Callable[[range, list[str]], Iterator[pa.Table]]
    """Yield tables of at most ``ROW_BLOCK`` rows which together are consecutive rows, with some columns."""

    def __post_init__(self) -> None:
        require_given(f"a row of {self.name}", self.n_rows, "give a file that is not empty")

    def require_columns(self, columns: Sequence[str]) -> None:
        """Raise a :class:`ConfigError` if a column is missing."""
        for column in columns:
            require_choice(f"{self.name}: column", column, self.schema.names)

    def vector_column(self, column: str) -> str:
        """Return the column of vectors: the only one, unless ``column`` names another."""
        if column == ANY_COLUMN:
            return only_column_of_vectors(self.schema, self.name)
        self.require_columns([column])
        return column


def open_rows(spec: VectorSpec) -> RowFile:
    """
    Open a .npy, .safetensors or .parquet file, a folder of Parquet files, or any other data set.

    Raises:
        ConfigError: it is missing, damaged or empty, or the files of a folder differ in their columns.
    """
    path = Path(spec.dataset_path).expanduser()
    if path.suffix in (".npy", ".safetensors"):
        return rows_of_vectors(open_vectors(spec))
    if path.exists() and not was_saved(path) and spec.split == "train":
        files = local_files(path)[1]
        if all(file.endswith(".parquet") for file in files):
            return _rows_of_parquet(spec.dataset_path, files)
    table = open_dataset(str(path), name=spec.dataset_name, split=spec.split, streaming=False)
    return _rows_of_dataset(cast(Dataset, table), f"dataset_path={spec.dataset_path!r}")


def rows_of_vectors(vectors: Vectors) -> RowFile:
    """View open vectors as rows: the column ``VECTOR``, and the other columns of their data set."""
    others = None if vectors.table is None else _rows_of_dataset(vectors.table, vectors.name)
    fields = [field for field in (others.schema if others else []) if field.name != VECTOR]

    def read(rows: range, columns: list[str]) -> Iterator[pa.Table]:
        besides = [column for column in columns if column != VECTOR]
        tables = others.read(rows, besides) if others and besides else None
        for start in range(rows.start, rows.stop, ROW_BLOCK):
            found = vectors.rows(torch.arange(start, min(start + ROW_BLOCK, rows.stop)))
            table = pa.table({VECTOR: lists_of(found)}) if tables is None else next(tables)
            yield table if tables is None else table.append_column(VECTOR, lists_of(found))

    schema = pa.schema([pa.field(VECTOR, pa.list_(pa.float32(), vectors.d_in)), *fields])
    return RowFile(vectors.name, schema, len(vectors), read)


def lists_of(rows: Float[Tensor, "n d_in"], kind: pa.DataType | None = None) -> pa.FixedSizeListArray:
    """Convert rows on the CPU to lists of Arrow, as float32 or as ``kind``."""
    values = rows.float().numpy().reshape(-1)
    return pa.FixedSizeListArray.from_arrays(
        pa.array(values if kind is None else values.astype(kind.to_pandas_dtype())), rows.shape[1]
    )


def _rows_of_dataset(table: Dataset, name: str) -> RowFile:
    arrow: Any = table.with_format("arrow")

    def read(rows: range, columns: list[str]) -> Iterator[pa.Table]:
        selected = arrow.select_columns(columns)
        for start in range(rows.start, rows.stop, ROW_BLOCK):
            yield selected[start : min(start + ROW_BLOCK, rows.stop)]

    return RowFile(name, table.data.schema, len(table), read)


def _rows_of_parquet(path: str, files: list[str]) -> RowFile:
    """Open Parquet files without the copy that datasets would make of them."""
    groups: list[tuple[str, int, int]] = []  # file, number of the row group, rows
    schema: pa.Schema | None = None
    with text_errors(path):
        for file in files:
            with pq.ParquetFile(file) as opened:
                sizes = [opened.metadata.row_group(i).num_rows for i in range(opened.num_row_groups)]
                groups += [(file, i, n) for i, n in enumerate(sizes)]
                if schema is not None and not schema.equals(opened.schema_arrow):
                    raise ConfigError(f"dataset_path={path!r}: {file} has other columns than {files[0]}.")
                schema = schema or opened.schema_arrow

    def read(rows: range, columns: list[str]) -> Iterator[pa.Table]:
        at = 0
        for file, number, n_rows in groups:
            if at >= rows.stop or at + n_rows <= rows.start:
                at += n_rows
                continue
            with text_errors(path), pq.ParquetFile(file) as opened:
                for batch in opened.iter_batches(ROW_BLOCK, row_groups=[number], columns=columns):
                    here = range(max(rows.start, at), min(rows.stop, at + len(batch)))
                    if here:
                        yield pa.Table.from_batches([batch.slice(here.start - at, len(here))])
                    at += len(batch)

    assert schema is not None
    return RowFile(f"dataset_path={path!r}", schema, sum(n for _, _, n in groups), read)


@dataclass(frozen=True)
class VectorRows:
    """Rows of a file, and how the vectors come from one of its columns."""

    rows: RowFile
    column: str
    d_in: int
    vectors: Callable[[pa.Array, int], Float[Tensor, "n d_in"]]
    """Convert a block of the column to float32; the number of its first row is for errors."""
    precision: str | None = None
    """Precision in which texts are embedded."""


def open_vector_rows(
    data: VectorSpec,
    *,
    model_name: str | None = None,
    precision: str | None = None,
    device: str = "auto",
    cached_for: Console | None = None,
) -> VectorRows:
    """
    Open vectors, or with ``model_name`` texts, which are embedded block by block as they are read.

    With ``cached_for``, all texts are embedded now, through the cache, which is shown on this console.

    Raises:
        ConfigError: the data, the column or the model is missing or cannot be used.
    """
    if model_name is None:
        return _of_vectors(open_rows(data), data.column_name)
    device = resolve_device("device", device)
    require_device("device", device)
    if cached_for is not None:
        kept = embedded(data, model_name, device=device, console=cached_for)
        return _of_vectors(rows_of_vectors(kept), VECTOR)
    rows = open_rows(data)
    require_text_column(rows.schema, data.column_name, rows.name)
    embed = Embedder(model_name, precision=precision, device=device)

    def vectors(texts: pa.Array, _: int) -> Float[Tensor, "n d_in"]:
        return embed([text or "" for text in texts.to_pylist()])

    return VectorRows(rows, data.column_name, embed.d_in, vectors, embed.precision)


def _of_vectors(rows: RowFile, named: str) -> VectorRows:
    column = rows.vector_column(named)
    name = f"column {column!r} of {rows.name}"
    first = next(rows.read(range(1), [column])).column(column).combine_chunks()
    d_in = rows_of_arrow(first, name, 0).shape[1]
    return VectorRows(rows, column, d_in, lambda block, start: rows_of_arrow(block, name, start).float())
