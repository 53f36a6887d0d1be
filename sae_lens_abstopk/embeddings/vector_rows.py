"""Rows of a file as vectors: read, or embedded from texts."""

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
from jaxtyping import Float
from rich.console import Console
from torch import Tensor

from sae_lens_abstopk.embeddings.row_files import VECTOR, RowFile, open_rows, rows_of_vectors
from sae_lens_abstopk.model.model_spec import require_device, resolve_device
from sae_lens_abstopk.vectors.embedding import Embedder, embedded
from sae_lens_abstopk.vectors.texts import require_text_column
from sae_lens_abstopk.vectors.vector_spec import VectorSpec
from sae_lens_abstopk.vectors.vectors import rows_of_arrow


@dataclass(frozen=True)
class VectorRows:
    """Rows of a file, and how the vectors come from one of its columns."""

    rows: RowFile
    column: str
    d_in: int
    vectors: Callable[[pa.Array, int], Float[Tensor, "n d_in"]]
    """Convert a block of the column to float32; the number of its first row is for errors."""


def open_vector_rows(
    data: VectorSpec, *, model_name: str | None = None, device: str = "auto", cached_for: Console | None = None
) -> VectorRows:
    """
    Open vectors, or with ``model_name`` texts, which are embedded block by block as they are read.

    Args:
        data: Vectors or texts in the column ``column_name``.
        model_name: A sentence-transformers model.
        device: Device of the model.
        cached_for: Embed all texts now, through the cache, and show it on this console.

    Raises:
        ConfigError: the data, the column or the model is missing or cannot be used.
    """
    if model_name is None:
        return _of_vectors(open_rows(data), data.column_name)
    device = resolve_device("device", device)
    require_device("device", device)
    if cached_for is not None:
        vectors = embedded(data, model_name, device=device, console=cached_for)
        return _of_vectors(rows_of_vectors(vectors), VECTOR)
    rows = open_rows(data)
    require_text_column(rows.schema, data.column_name, rows.name)
    embed = Embedder(model_name, device=device)
    return VectorRows(
        rows, data.column_name, embed.d_in, lambda texts, _: embed([text or "" for text in texts.to_pylist()])
    )


def _of_vectors(rows: RowFile, named: str) -> VectorRows:
    column = rows.vector_column(named)
    name = f"column {column!r} of {rows.name}"
    first = next(rows.read(range(1), [column])).column(column).combine_chunks()
    d_in = rows_of_arrow(first, name, 0).shape[1]
    return VectorRows(rows, column, d_in, lambda block, start: rows_of_arrow(block, name, start).float())
