"""Rows of vectors read like texts: each row is a text of one token, whose id is the number of the row."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_lens_abstopk.text.text_files import text_files
from sae_lens_abstopk.text.token_text import MarkedText
from sae_lens_abstopk.vectors.vector_spec import VectorSpec
from sae_lens_abstopk.vectors.vectors import Vectors

USUAL_NAMES = ("text", "sentence", "title", "id", "_id")
"""Columns that stand for a row where none is named; the first that there is."""
ROWS_HASHED = 64
LONGEST = 400
"""Characters of a row's text that are shown."""


class RowPasses:
    """Activations by row number: the vectors themselves, in place of the passes of a language model."""

    hook_name = "vectors"

    def __init__(self, vectors: Vectors, spec: VectorSpec, device: torch.device) -> None:
        self._vectors, self._spec, self._device = vectors, spec, device

    def activations(self, tokens: Int[Tensor, "n 1"]) -> Float[Tensor, "n 1 d_in"]:
        """Return the vectors of the rows whose numbers are ``tokens``, as float32."""
        return self._vectors.rows(tokens[:, 0])[:, None].to(self._device)

    def identity(self) -> list[Any]:
        """Return what identifies the vectors: their origin, with local files, and a hash of rows at even distances."""
        n = len(self._vectors)
        sample = self._vectors.rows(torch.arange(0, n, -(-n // ROWS_HASHED)))
        digest = hashlib.sha256(sample.numpy().tobytes()).hexdigest()
        return [asdict(self._spec), text_files(self._spec.dataset_path), n, digest]


class RowText:
    """Text of rows, with the methods of :class:`~sae_lens_abstopk.text.token_text.TokenText`."""

    def __init__(self, n_rows: int, values: Sequence[Any] | None = None) -> None:
        self._n_rows, self._values = n_rows, values

    def __len__(self) -> int:
        return self._n_rows

    @classmethod
    def of_vectors(cls, vectors: Vectors, column: str | None = None) -> "RowText":
        """
        Take the texts from ``column``, by default from the first of ``USUAL_NAMES``; without any, rows have numbers.

        Raises:
            ConfigError: there is no such column.
        """
        columns = vectors.columns
        name = column or next((usual for usual in USUAL_NAMES if usual in columns), None)
        return cls(len(vectors), None if name is None else vectors.column(name))

    def __call__(self, row: int) -> str:
        value = None if self._values is None else self._values[row]
        text = f"row {row}" if value is None or value == "" else str(value)
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"

    def pieces(self, rows: Sequence[int]) -> list[tuple[str, range]]:
        """Return the text of each row with its place among ``rows``."""
        return [(self(row), range(i, i + 1)) for i, row in enumerate(rows)]

    def marked(self, before: Sequence[int], row: int, after: Sequence[int]) -> MarkedText:  # noqa: ARG002
        """Return the text of ``row``, which has nothing around it."""
        return MarkedText("", self(row), "", readable=True)
