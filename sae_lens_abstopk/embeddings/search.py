"""Exact search by dot product: the best documents of each query, with one block of scores in memory."""

from collections.abc import Iterable, Iterator
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_array, csr_array

Matrix = npt.NDArray[np.float32] | csr_array
"""Rows of floats, dense or sparse."""
TOP = 100
"""Documents kept for each query."""
QUERIES, DOCUMENTS = 256, 16_384
"""Most queries and documents of one block of scores: 16 MiB of them."""


def scores(queries: Matrix, documents: Matrix | csc_array) -> npt.NDArray[np.float32]:
    """Return the dot products [n_queries, n_documents] of queries [n_queries, d] and documents [n_documents, d]."""
    products: Any = queries @ documents.T
    return products if isinstance(products, np.ndarray) else products.toarray()


def rank(queries: Matrix, documents: Matrix | Iterable[Matrix], *, top: int = TOP) -> npt.NDArray[np.int64]:
    """
    Return the numbers [n_queries, top] of the documents of largest dot product with each query, or of all if fewer.

    The best come first; of equal ones, the earlier document. ``documents`` [n_documents, d], or consecutive blocks of
    them, are dense or sparse as ``queries`` [n_queries, d] are.
    """
    parts = list(row_blocks(queries, QUERIES))
    best = [np.empty((n_rows(part), 0), dtype=np.int64) for part in parts]
    first = 0
    given = [documents] if isinstance(documents, np.ndarray | csr_array) else documents
    for block in (piece for each in given for piece in row_blocks(each, DOCUMENTS)):
        by_column = block if isinstance(block, np.ndarray) else block.tocsc()  # once, not for each part of the queries
        for index, part in enumerate(parts):
            keys = np.concatenate([best[index], _keys(scores(part, by_column), first)], axis=1)
            kept = min(top, keys.shape[1])
            best[index] = np.partition(keys, keys.shape[1] - kept, axis=1)[:, keys.shape[1] - kept :]
        first += n_rows(block)
    found = np.flip(np.sort(np.concatenate(best), axis=1), axis=1)
    return _LAST - (found & _LAST)


def row_blocks(matrix: Matrix, size: int) -> Iterator[Matrix]:
    """Yield consecutive blocks of at most ``size`` rows."""
    for start in range(0, n_rows(matrix), size):
        yield matrix[start : start + size]


def n_rows(matrix: Matrix) -> int:
    """Return the number of rows; sparse ones have no ``len``."""
    return cast(tuple[int, int], matrix.shape)[0]


# A key is one integer: the score in its upper half, the number of the document, counted down, in its lower half. A
# partial sort of keys finds the best documents, and equal scores have one order however the documents are cut.
_LAST = 0xFFFFFFFF


def _keys(found: npt.NDArray[np.float32], first: int) -> npt.NDArray[np.int64]:
    """Return the keys of scores [queries, n] of the documents from ``first`` on."""
    bits = (found + np.float32(0)).view(np.int32)  # the sum makes -0 a 0
    keys = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(np.int64)  # integers in the order of the floats
    keys <<= 32
    keys |= _LAST - np.arange(first, first + found.shape[1])
    return keys
