"""Texts to embed: a column of strings in a file or data set, read by row."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
from datasets import Dataset

from sae_lens_abstopk.system.errors import require_choice
from sae_lens_abstopk.text.documents import open_dataset
from sae_lens_abstopk.vectors.vector_spec import VectorSpec

# texts embedded, hashed and stored at a time
TEXT_BLOCK = 2048


@dataclass(frozen=True)
class Texts:
    """A column of texts, with the other columns of their data set."""

    name: str
    """Name in errors and records."""
    table: Dataset
    column: str

    def __len__(self) -> int:
        return len(self.table)

    def read(self, rows: range) -> list[str]:
        """Return the texts of consecutive rows; a missing one is empty."""
        found = self.table.select_columns([self.column])[rows.start : rows.stop]
        return [text or "" for text in found[self.column]]

    def lengths(self) -> Iterator[int]:
        """Yield the number of characters of each text."""
        for start in range(0, len(self), TEXT_BLOCK):
            yield from map(len, self.read(range(start, min(start + TEXT_BLOCK, len(self)))))

    def digest(self) -> tuple[str, int]:
        """Read all texts once; return the SHA-256 of their contents and how many are empty."""
        digest, n_empty = hashlib.sha256(), 0
        for start in range(0, len(self), TEXT_BLOCK):
            for text in self.read(range(start, min(start + TEXT_BLOCK, len(self)))):
                content = text.encode("utf-8", errors="surrogatepass")
                digest.update(f"{len(content)} ".encode() + content)
                n_empty += not text.strip()
        return digest.hexdigest(), n_empty


def open_texts(spec: VectorSpec) -> Texts:
    """
    Open the texts in the column ``spec.column_name``.

    Raises:
        ConfigError: the data set is missing, damaged or empty, or has no such column of strings.
    """
    path, column = spec.dataset_path, spec.column_name
    table = open_dataset(path, name=spec.dataset_name, split=spec.split, streaming=False)
    assert isinstance(table, Dataset)
    name = f"dataset_path={path!r}"
    require_text_column(table.data.schema, column, name)
    return Texts(f"column {column!r} of {name}", table, column)


def require_text_column(schema: pa.Schema, column: str, name: str) -> None:
    """Raise a :class:`ConfigError` unless the data set ``name`` has this column, and it holds strings."""
    kinds = [(field.name, field.type) for field in schema]
    texts = [each for each, kind in kinds if pa.types.is_string(kind) or pa.types.is_large_string(kind)]
    require_choice(f"{name}: the column of text", column, texts)
