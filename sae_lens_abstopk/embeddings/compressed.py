"""Documents as each method stores them and queries as it searches them, with the bytes of a stored document."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from sae_lens import SAE
from sklearn.decomposition import IncrementalPCA

from sae_lens_abstopk.embeddings.code_rows import StoredCodes, code_rows, decoded_rows, mirrored
from sae_lens_abstopk.embeddings.search import Matrix
from sae_lens_abstopk.saes.signed import is_signed, signed_latents
from sae_lens_abstopk.vectors.vectors import Vectors

Method = Literal["float32", "int8", "PCA", "codes", "decoded", "mirror"]
Dense = npt.NDArray[np.float32]
ENCODING = (
    "Bytes of a stored document. float32: 4 per dimension. int8, PCA: 1 per dimension or component, in 255 levels up "
    "to the largest magnitude of any document there. Codes: per active latent its index in ceil(log2 F) bits, a sign "
    "bit if the SAE is signed, its magnitude in 8 bits, in 255 levels up to the largest of that latent; the number of "
    "active latents too, if it varies; whole bytes per document, mean over documents. Mirrored codes have indices "
    "below 2 F and no sign bit. Shared by all documents and not counted: scales, PCA, SAE. Queries stay in float32."
)
_INT8 = 127
"""Levels on each side of 0."""


@dataclass(frozen=True)
class Compressed:
    """Documents of one method and the queries to search them with, by dot product."""

    method: Method
    queries: Matrix
    blocks: Callable[[], Iterator[Matrix]]
    """Consecutive documents, as they are read back from what is stored."""
    bytes: float
    """Mean bytes of a stored document."""
    active: float | None = None
    """Mean active latents of a document."""


def float32(queries: Dense, documents: Vectors) -> Compressed:
    """Store documents as they are."""
    return Compressed("float32", queries, partial(_arrays, documents), 4 * documents.d_in)


def int8(queries: Dense, documents: Vectors) -> Compressed:
    """Store each dimension in a byte."""
    blocks = partial(_arrays, documents)
    return Compressed("int8", queries, partial(_in_a_byte, blocks, _scale(blocks())), documents.d_in)


class Components(NamedTuple):
    """Principal components of the documents, the first explains most."""

    mean: Dense
    """[d]."""
    rows: Dense
    """[n, d], orthonormal."""


def fit_pca(documents: Vectors) -> Components:
    """Fit all components that the documents allow, a block at a time."""
    n = min(len(documents), documents.d_in)
    pca: Any = IncrementalPCA(n)
    held: list[Dense] = []
    for block in _arrays(documents):
        held.append(block)
        if sum(map(len, held)) >= n:  # fewer rows cannot be fitted first
            pca.partial_fit(np.concatenate(held))
            held = []
    if held:
        pca.partial_fit(np.concatenate(held))
    return Components(pca.mean_.astype(np.float32), pca.components_.astype(np.float32))


def pca_int8(queries: Dense, documents: Vectors, pca: Components, n: int) -> Compressed:
    """Store the first ``n`` components of each document in a byte each, and search with whole queries."""
    components = pca.rows[:n]

    def projected() -> Iterator[Any]:
        return ((block - pca.mean) @ components.T for block in _arrays(documents))

    def decoded() -> Iterator[Dense]:
        return (block @ components + pca.mean for block in _in_a_byte(projected, scale))

    scale = _scale(projected())
    return Compressed("PCA", queries, decoded, len(components))


def of_codes(sae: SAE[Any], queries: Dense, documents: Vectors) -> list[Compressed]:
    """
    Store the codes of each document, in up to three methods.

    ``codes`` scores by the dot product of the query's and the document's codes; ``decoded`` by that of the query and
    the decoded document; ``mirror``, of signed SAEs only, by that of the codes [relu(z), relu(-z)], which lacks the
    negative terms of the signed product: a latent that is positive in one and negative in the other adds 0.
    """
    codes_of_queries = code_rows(sae, Vectors.of_array(queries).chunks[0])
    rows = [code_rows(sae, block) for block in documents.blocks()]
    signed = is_signed(sae) and bool(signed_latents(sae).any())
    stored = StoredCodes.of(rows, signed=signed)

    def decoded() -> Iterator[Dense]:
        return (decoded_rows(sae, block) for block in stored.blocks)

    found = [
        Compressed("codes", codes_of_queries, partial(iter, stored.blocks), stored.bytes, stored.active),
        Compressed("decoded", queries, decoded, stored.bytes, stored.active),
    ]
    if signed:
        both = StoredCodes.of(map(mirrored, rows), signed=False)
        found.append(
            Compressed("mirror", mirrored(codes_of_queries), partial(iter, both.blocks), both.bytes, both.active)
        )
    return found


def _arrays(documents: Vectors) -> Iterator[Dense]:
    return (block.numpy() for block in documents.blocks())


def _scale(blocks: Iterable[Dense]) -> Dense:
    """Return the step of each column: its largest magnitude / 127, or 1 where it is 0."""
    largest = np.maximum.reduce([np.abs(block).max(axis=0) for block in blocks]) / np.float32(_INT8)
    return np.where(largest > 0, largest, np.float32(1))


def _in_a_byte(blocks: Callable[[], Iterator[Dense]], scale: Dense) -> Iterator[Dense]:
    """Round each column to multiples of its step."""
    return (np.rint(block / scale).clip(-_INT8, _INT8) * scale for block in blocks())
