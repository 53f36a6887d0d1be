"""Vectors to train on: where they are, and which of them are held out."""

from dataclasses import dataclass
from typing import Literal

from sae_lens_abstopk.system.errors import require_given, require_range

VectorPart = Literal["train", "held_out", "all"]
ANY_COLUMN = "text"
"""The default of ``column_name``: of vectors, the only column of lists of floats."""


@dataclass(frozen=True, kw_only=True)
class VectorSpec:
    """Vectors in a file or data set. Fields are keys of a training config."""

    dataset_path: str
    """A .npy, .safetensors, .parquet, .jsonl or .json file, a data set on disk, or a Hub id."""
    model_name: str = ""
    """Sentence-transformers model that embeds ``column_name``; by default that column holds vectors."""
    dataset_name: str | None = None
    split: str = "train"
    column_name: str = ANY_COLUMN
    """Column of vectors, or tensor of a .safetensors file."""
    group: str | None = None
    """Column whose equal values stay on one side of the split."""
    held_out_every: int | None = 10
    """Every n-th row, or group in the order of first appearance, is held out."""

    def __post_init__(self) -> None:
        require_given("data", self.dataset_path, "give a file of vectors, a data set on disk or a Hub id")
        require_range("held_out_every", self.held_out_every, at_least=2, remedy=", or null to hold nothing out")
