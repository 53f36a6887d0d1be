"""Differences of pairs of vectors, computed as they are read."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from typing_extensions import override

from sae_lens_abstopk.vectors.vector_spec import VectorPart, VectorSpec
from sae_lens_abstopk.vectors.vectors import BLOCK, Vectors


@dataclass(frozen=True, kw_only=True)
class Differences(Vectors):
    """The rows x_i = v[a_i] - v[b_i] of two of the vectors v, and which of them are held out."""

    a: Int[Tensor, " n"]
    b: Int[Tensor, " n"]
    held_out: Bool[Tensor, " n"]
    unit: bool = False
    """Whether each difference is scaled to the norm sqrt(d_in), so that small ones count as much as large ones."""

    @override
    def __len__(self) -> int:
        return len(self.a)

    @override
    def rows(self, index: Int[Tensor, " n"]) -> Float[Tensor, "n d_in"]:
        x = self._unscaled(index)
        return x * (self.d_in**0.5 / x.norm(dim=1, keepdim=True).clamp(min=1e-30)) if self.unit else x

    def units(self) -> Float[Tensor, " n"]:
        """Return the length, in units of the vectors, that 1 has in each row: what its scaling divided by."""
        if not self.unit:
            return torch.ones(len(self))
        parts = torch.arange(len(self)).split(BLOCK)
        return torch.cat([self._unscaled(index).norm(dim=1) for index in parts]) / self.d_in**0.5

    def _unscaled(self, index: Int[Tensor, " n"]) -> Float[Tensor, "n d_in"]:
        return super().rows(self.a[index]) - super().rows(self.b[index])

    @override
    def blocks(self) -> Iterator[Float[Tensor, "n d_in"]]:
        for index in torch.arange(len(self)).split(BLOCK):
            yield self.rows(index)

    @override
    def part(self, spec: VectorSpec, part: VectorPart) -> Int[Tensor, " n"]:
        chosen = {"train": ~self.held_out, "held_out": self.held_out, "all": torch.ones_like(self.held_out)}[part]
        return chosen.nonzero().squeeze(1)
