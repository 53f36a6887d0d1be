"""Vectors computed once and kept on the disk, by content; an interrupted computation is continued."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from jaxtyping import Float
from rich.console import Console
from torch import Tensor

from sae_lens_abstopk.system.files import cache_folder, require_space
from sae_lens_abstopk.system.terminal import PassProgress, passes_bar
from sae_lens_abstopk.vectors.vector_spec import VectorSpec
from sae_lens_abstopk.vectors.vectors import Vectors, open_vectors

# seconds of reading that a crash of the machine may lose
KEPT_EVERY = 5.0
# rows sorted at a time
SORTED_ROWS = 16_384
# hex digits of a hash in a file name
DIGITS = 24


class Reader(NamedTuple):
    """Computes rows of vectors, once its model is loaded."""

    d_in: int
    batches: Sequence[Sequence[int]]
    """The rows of each batch, in the order of reading; each row is in one of them."""
    sizes: Sequence[int]
    """Size of each batch, in units of the progress bar."""
    read: Callable[[int], Float[Tensor, "n d_in"]]
    """Compute the rows of the batch with this number."""


def cached_rows(
    name: str,
    facts: Any,
    n_rows: int,
    open_reader: Callable[[], Reader],
    *,
    dtype: str,
    console: Console,
    doing: str,
    unit: str = "",
    hint: str = "",
) -> Vectors:
    """
    Open ``n_rows`` vectors, computing those that the package's cache lacks.

    Args:
        name: First part of the file name.
        facts: All that the vectors depend on; must be JSON.
        open_reader: Called only if rows are missing.
        dtype: Type in the cache.
        doing: Title of the progress bar, such as "embedding".
        unit: Unit of the bar, such as "tokens".
        hint: How to read less, printed if the rest takes minutes.

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
                reader, partial = open_reader(), path.with_suffix(".partial")
                remedy = "free some, or set ABSTOPK_CACHE to a folder on another disk"
                needed = 2 * n_rows * reader.d_in * np.dtype(dtype).itemsize  # as read, and sorted
                require_space(path.parent, needed, f"{doing} {n_rows:,} texts", remedy=remedy)
                with passes_bar(console, doing, unit, hint) as on_progress:
                    _fill(partial, reader, np.dtype(dtype), on_progress)
                _sort(partial, path, reader, np.dtype(dtype))
                console.print(f"{n_rows:,} vectors are kept in {path}", style="dim", soft_wrap=True)
            with suppress(OSError):  # Windows does not delete an open file
                lock.unlink()
    return open_vectors(VectorSpec(dataset_path=str(path)))


def embeddings_folder() -> Path:
    """Return the folder of cached vectors; see :func:`cache_folder`."""
    return cache_folder() / "embeddings"


def _fill(partial: Path, reader: Reader, dtype: np.dtype, on_progress: PassProgress) -> None:
    """Write the rows of all batches after those that an interrupted call left, in the order of reading."""
    row_bytes, ends = reader.d_in * dtype.itemsize, [0, *accumulate(map(len, reader.batches))]
    sizes = [0, *accumulate(reader.sizes)]
    kept_at = time.monotonic()
    with partial.open("ab") as file:
        done = max(n for n, end in enumerate(ends) if end * row_bytes <= file.tell())
        file.truncate(ends[done] * row_bytes)
        on_progress(sizes[done], sizes[-1])
        for n in range(done, len(reader.batches)):
            file.write(reader.read(n).numpy().astype(dtype).tobytes())
            if time.monotonic() - kept_at >= KEPT_EVERY:
                file.flush()
                os.fsync(file.fileno())
                kept_at = time.monotonic()
            on_progress(sizes[n + 1], sizes[-1])


def _sort(partial: Path, path: Path, reader: Reader, dtype: np.dtype) -> None:
    """Write the rows of ``partial`` to ``path``, in their own order and with the header of a .npy file."""
    order = np.concatenate([np.asarray(each, dtype=np.int64) for each in reader.batches])
    as_read = np.memmap(partial, dtype, "r", shape=(len(order), reader.d_in))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    about = {"descr": dtype.str, "fortran_order": False, "shape": as_read.shape}
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, about)
    whole = path.with_suffix(".sorted")
    with whole.open("wb") as file:
        file.write(header.getvalue())
        for start in range(0, len(order), SORTED_ROWS):
            file.write(as_read[place[start : start + SORTED_ROWS]].tobytes())
        file.flush()
        os.fsync(file.fileno())
    del as_read  # Windows cannot remove a mapped file
    whole.replace(path)
    partial.unlink()
