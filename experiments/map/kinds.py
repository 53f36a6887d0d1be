"""The kinds of vectors of the map, and files of them."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from typing_extensions import override

from sae_lens_abstopk.vectors.vector_spec import VectorPart, VectorSpec
from sae_lens_abstopk.vectors.vectors import Vectors

# of ten documents, one is for choosing and one is reported
PARTS = 10
CHOOSING, REPORTED = PARTS - 2, PARTS - 1
PAIRS = "differences of pairs"
"""The kind whose direction is arbitrary: which text is A means nothing."""


@dataclass(frozen=True, kw_only=True)
class KindVectors(Vectors):
    """Vectors of one kind, divided by document into those to train on, to choose by, and to report."""

    document: Int[Tensor, " n"]

    @override
    def part(self, spec: VectorSpec, part: VectorPart) -> Int[Tensor, " n"]:
        if part == "all":
            return torch.arange(len(self))
        return self.numbers(REPORTED) if part == "held_out" else self.to_train_on()

    def to_train_on(self) -> Int[Tensor, " n"]:
        """Return the rows that are in neither ``CHOOSING`` nor ``REPORTED``."""
        return (self._piece < CHOOSING).nonzero().squeeze(1)

    def numbers(self, piece: int) -> Int[Tensor, " n"]:
        """Return the rows of ``CHOOSING`` or ``REPORTED``."""
        return (self._piece == piece).nonzero().squeeze(1)

    @property
    def _piece(self) -> Int[Tensor, " n"]:
        return self.document % PARTS


def write_kind(folder: Path, kind: str, x: Float[Tensor, "n d"], document: Int[Tensor, " n"], source: str) -> None:
    """Write vectors in float16 with the document of each; ``source`` says where they are from."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"x": x.half().contiguous(), "document": document.int().contiguous()}
    save_file(values, folder / f"{kind}.safetensors", metadata={"source": source})


def read_kind(folder: Path, kind: str) -> tuple[KindVectors, str]:
    """Read vectors into memory, and where they are from."""
    path = folder / f"{kind}.safetensors"
    found = load_file(path)
    with safe_open(path, framework="pt") as file:
        source = file.metadata()["source"]
    return KindVectors(kind, (found["x"],), document=found["document"].long()), source


def kinds_in(folder: Path) -> list[str]:
    """Return the kinds of which there are vectors."""
    return sorted(path.stem for path in folder.glob("*.safetensors"))
