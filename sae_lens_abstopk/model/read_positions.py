"""Reduce the activations and codes of a text to one row for each read position."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from sae_lens_abstopk.model.text_batches import TextBatch
from sae_lens_abstopk.saes.codec import Codec, require_finite_codes

READS = ("last", "mean", "marked")
# most bytes of codes in memory
CHUNK_BYTES = 64 * 2**20


class Fallbacks(NamedTuple):
    """Counts of texts that could not be read as requested."""

    unfiltered: int = 0
    """Texts without a kept token; they are read unfiltered."""
    marked_left_out: int = 0
    """Texts whose marked token is cut off or filtered out; no probe sees them."""
    truncated: int = 0
    """Texts cut to ``MAX_LENGTH`` tokens."""


class TextReader:
    """Reduction of a batch to one row for each text and read position; only tokens that are read are encoded."""

    def __init__(self, batch: TextBatch, reads: Sequence[str]) -> None:
        self.batch = batch
        self.has_kept = batch.kept.any(1)
        self.usable = torch.where(self.has_kept[:, None], batch.kept, batch.real)
        width = batch.kept.shape[1]
        places = torch.arange(width, device=batch.kept.device)
        self.last = torch.where(self.usable, places, -1).amax(1)
        self.with_mean = "mean" in reads
        self.picked = {"last": self.last, "marked": torch.where(batch.marked < 0, self.last, batch.marked)}
        self.picked = {read: place for read, place in self.picked.items() if read in reads}
        self.texts = torch.arange(len(batch.rows), device=batch.kept.device)

    def of_activations(self) -> dict[str, npt.NDArray[np.float32]]:
        found = {read: self.batch.activations[self.texts, place] for read, place in self.picked.items()}
        if self.with_mean:
            weights = self.usable.to(torch.float32)[..., None]
            # not 0 * x: a filtered token may be a thousand times as large, which would lose precision
            total = torch.where(self.usable[..., None], self.batch.activations.float(), 0).sum(1)
            found["mean"] = total / weights.sum(1)
        return {read: _array(values) for read, values in found.items()}

    def of_codes(self, name: str, sae: Codec, d_sae: int) -> dict[str, npt.NDArray[np.float32]]:
        read = self.usable.clone() if self.with_mean else torch.zeros_like(self.usable)
        for place in self.picked.values():
            read[self.texts, place] = True
        text, position = read.nonzero(as_tuple=True)
        x = self.batch.activations[text, position].float()
        device = x.device
        found = {kind: torch.empty(len(self.texts), d_sae, device=device) for kind in self.picked}
        sums = torch.zeros(len(self.texts), d_sae, device=device) if self.with_mean else None
        in_mean = self.usable[text, position]
        size = max(1, CHUNK_BYTES // (4 * d_sae))
        for start in range(0, len(x), size):
            part = slice(start, start + size)
            codes = sae.encode(x[part])
            codes = (codes.to_dense() if codes.is_sparse else codes).float().to(device)
            require_finite_codes(codes, f"SAE {name!r}")
            if sums is not None:
                sums.index_add_(0, text[part][in_mean[part]], codes[in_mean[part]])
            for kind, place in self.picked.items():
                here = position[part] == place[text[part]]
                found[kind][text[part][here]] = codes[here]
        if sums is not None:
            found["mean"] = sums / self.usable.sum(1, keepdim=True)
        return {kind: _array(values) for kind, values in found.items()}

    def left_out(self) -> list[int]:
        """Return the indices of texts whose marked token is cut off or filtered out."""
        if "marked" not in self.picked:
            return []
        kept = self.batch.kept[self.texts, self.picked["marked"]] & (self.batch.marked >= 0)
        return self.batch.rows[~kept.cpu()].tolist()

    def fallbacks(self) -> Fallbacks:
        return Fallbacks(
            unfiltered=int((~self.has_kept).sum()),
            marked_left_out=len(self.left_out()),
            truncated=self.batch.truncated,
        )


def _array(values: torch.Tensor) -> npt.NDArray[np.float32]:
    return values.float().cpu().numpy()
