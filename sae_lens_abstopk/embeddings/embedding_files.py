"""Texts in files as vectors in Parquet."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
from rich.console import Console

from sae_lens_abstopk.embeddings.parquet_parts import Shard, Work, Written
from sae_lens_abstopk.embeddings.row_files import VECTOR, lists_of, open_vector_rows
from sae_lens_abstopk.embeddings.run_work import run_work
from sae_lens_abstopk.system.errors import require_choice
from sae_lens_abstopk.system.files import without_path
from sae_lens_abstopk.system.precision import FLOAT32
from sae_lens_abstopk.vectors.embedding import EmbeddingType
from sae_lens_abstopk.vectors.vector_spec import VectorSpec


def embed_file(
    model_name: str,
    data: VectorSpec,
    out: str | Path,
    *,
    keep: Sequence[str] = (),
    dtype: EmbeddingType = "float32",
    float32: bool = False,
    shard: Shard | None = None,
    ray_workers: int | None = None,
    device: str = "auto",
    console: Console | None = None,
) -> Written:
    """
    Embed texts into Parquet with the column ``vector``, one row a text; training and :func:`encode_file` read it.

    Memory does not grow with the number of rows, and nothing goes to the cache.

    Args:
        model_name: A sentence-transformers model: a Hub id or a local folder.
        data: Texts in the column ``column_name``; empty ones are embedded like any other, and reported.
        out: As for :func:`encode_file`, and so are ``shard`` and ``ray_workers``.
        keep: Columns to copy, such as ids and labels.
        dtype: Type of the values in the file.
        float32: Compute in float32, also where bfloat16 is faster.
        device: Device of the model.

    Raises:
        ConfigError: the model, the data, a column or ``out`` cannot be used.
    """
    require_choice("dtype", dtype, ("float32", "float16"))
    options = {"keep": tuple(keep), "dtype": dtype, "precision": FLOAT32 if float32 else None, "device": device}
    make = partial(embed_work, model_name, data, **options)
    return run_work("embedding", make, Path(out), shard=shard, ray_workers=ray_workers, console=console)


def embed_work(
    model_name: str,
    data: VectorSpec,
    *,
    keep: tuple[str, ...],
    dtype: EmbeddingType,
    precision: str | None,
    device: str,
) -> Work:
    """Load all that embedding needs, and check it."""
    found = open_vector_rows(data, model_name=model_name, precision=precision, device=device)
    kind = pa.float16() if dtype == "float16" else pa.float32()
    field = pa.field(VECTOR, pa.list_(kind, found.d_in))
    record = {"kind": "embeddings", "model": without_path(model_name), "source": without_path(data.dataset_path)}
    record |= {"precision": found.precision}
    return Work(
        found.rows,
        found.column,
        keep,
        (field,),
        record,
        lambda block, start: [lists_of(found.vectors(block, start), kind)],
    )
