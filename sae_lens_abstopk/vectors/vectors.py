"""Vectors in files and data sets: opened without reading them into memory, read by row, and split."""

import mmap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor

from sae_lens_abstopk.system.errors import ConfigError, require_choice, require_given
from sae_lens_abstopk.system.files import reading
from sae_lens_abstopk.text.documents import open_dataset
from sae_lens_abstopk.vectors.vector_spec import ANY_COLUMN, VectorPart, VectorSpec

# rows read at a time by passes over all of them
BLOCK = 16_384
# rows read at a time where they are scattered: the system may map 2 MB of the file for each
SCATTERED = 128
# pages of smaller files stay in memory: reading them again takes ten times as long
KEPT_BYTES = 2**29


@dataclass(frozen=True)
class Vectors:
    """Rows of floats, with the other columns of their data set."""

    name: str
    """Name in errors and records."""
    chunks: tuple[Tensor, ...]
    """Consecutive rows, each [n, d_in]; views of the memory-mapped file where there is one."""
    table: Dataset | None = None
    mapped: tuple[mmap.mmap, ...] = ()
    """The maps of the files that the rows are views of, if their pages can be given back."""

    @classmethod
    def of_array(cls, array: Any, *, name: str = "the array") -> "Vectors":
        """
        Wrap a NumPy array or a tensor [n, d_in], without copying it; :class:`Vectors` stay as they are.

        Raises:
            ConfigError: it is not a matrix of floating-point numbers.
        """
        if isinstance(array, Vectors):
            return array
        tensor = _as_tensor(array, name) if isinstance(array, np.ndarray) else torch.as_tensor(array).detach()
        return cls(name, (_require_matrix(tensor, name),), mapped=_maps_of(array))

    def __len__(self) -> int:
        return sum(len(chunk) for chunk in self.chunks)

    @property
    def d_in(self) -> int:
        """Width of the vectors."""
        return self.chunks[0].shape[1]

    def rows(self, index: Int[Tensor, " n"]) -> Float[Tensor, "n d_in"]:
        """Return the rows ``index`` in their order, as float32."""
        found = torch.empty(len(index), self.d_in, device=self.chunks[0].device)
        ends = list(accumulate(len(chunk) for chunk in self.chunks))
        size = SCATTERED if self.mapped else max(len(index), 1)
        for piece, place in zip(index.split(size), found.split(size), strict=True):
            for chunk, end in zip(self.chunks, ends, strict=True):
                here = slice(None)
                if len(self.chunks) > 1:
                    here = (piece >= end - len(chunk)) & (piece < end)
                place[here] = chunk[piece[here] - (end - len(chunk))].float()
            self._release_pages()
        return found

    def blocks(self) -> Iterator[Float[Tensor, "n d_in"]]:
        """Yield all rows in order as float32, a block at a time."""
        for chunk in self.chunks:
            for block in chunk.split(BLOCK):
                yield block.float()
                self._release_pages()

    def _release_pages(self) -> None:
        """Give back the memory of the pages that were read; the operating system keeps them cached while it can."""
        for each in self.mapped if hasattr(mmap, "MADV_DONTNEED") else ():
            each.madvise(mmap.MADV_DONTNEED)

    @property
    def columns(self) -> list[str]:
        """Names of the columns of the data set; a file of one array has none."""
        return [] if self.table is None else self.table.column_names

    def column(self, name: str) -> list[Any]:
        """
        Return the values of a column, such as labels or texts.

        Raises:
            ConfigError: there is no such column.
        """
        return column_of(self.table, name, self.name)

    def part(self, spec: VectorSpec, part: VectorPart) -> Int[Tensor, " n"]:
        """
        Return the numbers of the rows of one part, ascending.

        Raises:
            ConfigError: the group column is missing, or the part is empty.
        """
        group = None if spec.group is None else self.column(spec.group)
        return rows_of_part(self.name, len(self), group, spec.held_out_every, part)

    def require_sound(self) -> None:
        """
        Read all rows once.

        Raises:
            ConfigError: a value is NaN or infinite, or all rows are equal.
        """
        first, differ, done = None, False, 0
        for block in self.blocks():
            first = block[0].clone() if first is None else first
            require_finite(block, self.name, done)
            differ = differ or bool((block != first).any())
            done += len(block)
        if not differ:
            raise ConfigError(f"{self.name}: all {len(self)} rows are equal, so there is nothing to learn.")


def column_of(table: Dataset | None, column: str, name: str) -> list[Any]:
    """Return the values of a column of the data set ``name``; raise a :class:`ConfigError` if it has none."""
    require_choice(f"{name}: column", column, [] if table is None else table.column_names)
    assert table is not None
    return table[column][:]


def rows_of_part(
    name: str, n: int, group: Sequence[Any] | None, held_out_every: int | None, part: VectorPart
) -> Int[Tensor, " n"]:
    """Return the numbers of the rows of one part of the data set ``name``; equal values of ``group`` stay together."""
    if part == "all" or (part == "train" and held_out_every is None):
        return torch.arange(n)
    every = require_given("held_out_every", held_out_every, "set it to a number such as 10, to hold something out")
    units = torch.arange(n)
    if group is not None:
        numbers: dict[Any, int] = {}
        units = torch.tensor([numbers.setdefault(value, len(numbers)) for value in group])
    is_held_out = units % every == every - 1
    rows = (is_held_out if part == "held_out" else ~is_held_out).nonzero().squeeze(1)
    if not len(rows):
        unit = "rows" if group is None else "groups"
        raise ConfigError(
            f"{name} has {int(units.max()) + 1} {unit}, too few for held_out_every={every}; lower it, or set "
            "it to null."
        )
    return rows


def open_vectors(spec: VectorSpec) -> Vectors:
    """
    Open the vectors of ``spec``; the file stays on disk and is read by row.

    Raises:
        ConfigError: the file is missing, damaged or not of numbers, rows differ in length, or the column is missing.
    """
    path = Path(spec.dataset_path).expanduser()
    if path.suffix == ".npy":
        name = f"dataset_path={str(path)!r}"
        with reading(name, "save it as an array of floats"):
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        return Vectors.of_array(array, name=name)
    if path.suffix == ".safetensors":
        return _open_safetensors(path, spec.column_name)
    table = open_dataset(str(path), name=spec.dataset_name, split=spec.split, streaming=False)
    assert isinstance(table, Dataset)
    column = spec.column_name
    if column == ANY_COLUMN:
        column = only_column_of_vectors(table.data.schema, f"dataset_path={spec.dataset_path!r}")
    require_choice(f"dataset_path={spec.dataset_path!r}: column", column, table.column_names)
    name, start = f"column {column!r} of dataset_path={spec.dataset_path!r}", 0
    chunks: list[Tensor] = []
    for chunk in table.data.column(column).chunks:
        if len(chunk):
            chunks.append(rows_of_arrow(chunk, name, start))
        start += len(chunk)
        if chunks and chunks[-1].shape[1] != chunks[0].shape[1]:
            raise ConfigError(f"{name}: rows have different lengths, {chunks[0].shape[1]} and {chunks[-1].shape[1]}.")
    require_given(f"a row of {name}", chunks, "give a file that is not empty")
    return Vectors(name, tuple(chunks), table)


def _maps_of(array: Any) -> tuple[mmap.mmap, ...]:
    """Return the map of a large file of which ``array`` is a view; not of mode ``c``, whose changes are in memory."""
    if not isinstance(array, np.memmap) or array.mode == "c" or array.nbytes <= KEPT_BYTES:
        return ()
    return (array.base,) if isinstance(array.base, mmap.mmap) else ()


def _open_safetensors(path: Path, tensor: str) -> Vectors:
    name = f"dataset_path={str(path)!r}"
    with reading(name, "save it again"), safe_open(path, framework="pt") as file:
        names = list(file.keys())
        wanted = names[0] if tensor == ANY_COLUMN and len(names) == 1 else tensor
        require_choice(f"{name}: column", wanted, sorted(names))
        found = file.get_tensor(wanted)
    return Vectors(name, (_require_matrix(found, name),))


def require_finite(block: Float[Tensor, "n d_in"], name: str, start: int) -> None:
    """Raise a :class:`ConfigError` if a value is NaN or infinite; ``start`` is the number of the first row."""
    if not (finite := block.isfinite().all(dim=1)).all():
        row = start + int((~finite).nonzero()[0])
        raise ConfigError(f"{name} has NaN or infinite values, first in row {row}; remove such rows.")


def only_column_of_vectors(schema: pa.Schema, name: str) -> str:
    """Return the name of the only column of lists of floats; a :class:`ConfigError` if there is none or several."""
    found = [field.name for field in schema if _holds_lists(field.type) and pa.types.is_floating(field.type.value_type)]
    if len(found) != 1:
        what = f"several columns of vectors ({', '.join(found)})" if found else "no column of lists of floats"
        raise ConfigError(f"{name} has {what} among {', '.join(schema.names)}; name one with column=.")
    return found[0]


def _holds_lists(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def rows_of_arrow(chunk: Any, name: str, start: int) -> Tensor:
    """
    View a chunk of a column as rows [n, d_in]; ``start`` is the number of its first row.

    Raises:
        ConfigError: it does not hold lists of numbers, all of one length and without missing values.
    """
    if not _holds_lists(chunk.type) or not (
        pa.types.is_floating(chunk.type.value_type) or pa.types.is_integer(chunk.type.value_type)
    ):
        raise ConfigError(f"{name} holds {chunk.type}; it must hold lists of numbers.")
    lengths = np.asarray(chunk.value_lengths().fill_null(-1))
    values = chunk.flatten()
    if (odd := np.flatnonzero(lengths != lengths[0])).size or lengths[0] < 1:
        row = int(odd[0]) if odd.size else 0
        what = "is missing" if lengths[row] < 0 else f"has {lengths[row]} numbers, and row {start} has {lengths[0]}"
        raise ConfigError(f"{name}: row {start + row} {what}; all rows must have the same length.")
    if values.null_count:
        row = start + int(np.flatnonzero(np.asarray(values.is_null()))[0]) // int(lengths[0])
        raise ConfigError(f"{name}: row {row} has missing values; remove such rows.")
    return _as_tensor(values.to_numpy(zero_copy_only=True), name).view(len(chunk), -1)


def _as_tensor(array: np.ndarray, name: str) -> Tensor:
    if array.dtype.byteorder == ">" or array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise ConfigError(f"{name} has values of type {array.dtype}; save it as float16, float32 or float64.")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array if min(array.strides, default=0) >= 0 else array.copy())


def _require_matrix(tensor: Tensor, name: str) -> Tensor:
    if tensor.ndim != 2 or 0 in tensor.shape:
        raise ConfigError(f"{name} has the shape {list(tensor.shape)}; it must be [rows, width].")
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise ConfigError(f"{name} has values of type {tensor.dtype}; make them real numbers.")
    return tensor
