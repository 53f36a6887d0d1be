"""Vectors computed once and kept on the disk, by content; an interrupted computation is continued."""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from jaxtyping import Float
from rich.console import Console
from torch import Tensor

from sae_lens_abstopk.system.files import cache_folder, require_space
from sae_lens_abstopk.system.terminal import passes_bar
from sae_lens_abstopk.vectors.vector_spec import VectorSpec
from sae_lens_abstopk.vectors.vectors import Vectors, open_vectors

# rows computed and stored at a time
ROW_BLOCK = 2048
# hex digits of a hash in a file name
DIGITS = 24


class Reader(NamedTuple):
    """Computes rows of vectors, once its model is loaded."""

    d_in: int
    rows: Callable[[range], Float[Tensor, "n d_in"]]


def cached_rows(
    name: str, facts: Any, n_rows: int, open_reader: Callable[[], Reader], *, dtype: str, console: Console, doing: str
) -> Vectors:
    """
    Open ``n_rows`` vectors, computing those that the package's cache lacks.

    Args:
        name: First part of the file name.
        facts: All that the vectors depend on; must be JSON.
        open_reader: Called only if rows are missing.
        dtype: Type in the cache.
        doing: Title of the progress bar, such as "embedding".

    Raises:
        ConfigError: the disk is too small.
    """
    key = hashlib.sha256(json.dumps([facts, dtype]).encode()).hexdigest()[:DIGITS]
    path = embeddings_folder() / f"{name}-{key}.npy"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock")
        # the ranks of a training run wait here for the one that computes
        with FileLock(lock):
            if not path.is_file():
                _fill(path, n_rows, open_reader(), np.dtype(dtype), console, doing)
            with suppress(OSError):  # Windows does not delete an open file
                lock.unlink()
    return open_vectors(VectorSpec(dataset_path=str(path)))


def embeddings_folder() -> Path:
    """Return the folder of cached vectors; see :func:`cache_folder`."""
    return cache_folder() / "embeddings"


def _fill(path: Path, n_rows: int, reader: Reader, dtype: np.dtype, console: Console, doing: str) -> None:
    """Write all rows to ``path``, after the whole blocks that an interrupted call left."""
    partial, row_bytes = path.with_suffix(".partial"), reader.d_in * dtype.itemsize
    remedy = "free some, or set ABSTOPK_CACHE to a folder on another disk"
    require_space(path.parent, n_rows * row_bytes, f"{doing} {n_rows:,} texts", remedy=remedy)
    about = {"descr": dtype.str, "fortran_order": False, "shape": (n_rows, reader.d_in)}
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, about)
    with partial.open("ab") as file, passes_bar(console, doing) as on_progress:
        if file.tell() < header.tell():
            file.truncate(0)
            file.write(header.getvalue())
        done = (file.tell() - header.tell()) // row_bytes // ROW_BLOCK * ROW_BLOCK
        file.truncate(header.tell() + done * row_bytes)
        for start in range(done, n_rows, ROW_BLOCK):
            rows = range(start, min(start + ROW_BLOCK, n_rows))
            file.write(reader.rows(rows).numpy().astype(dtype).tobytes())
            file.flush()
            os.fsync(file.fileno())
            on_progress(rows.stop, n_rows)
    partial.replace(path)
    console.print(f"{n_rows:,} vectors are kept in {path}", style="dim", soft_wrap=True)
