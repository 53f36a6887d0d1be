"""Activations and codes of texts at chosen read positions, one row per text, on disk."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int
from torch import Tensor
from typing_extensions import override

from sae_lens_abstopk.model.inference import casts_shared
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.text_batches import Marker, ReadingRules, TextBatch, text_batches
from sae_lens_abstopk.saes.batch_selection import require_per_token
from sae_lens_abstopk.saes.codec import Codec, require_finite_codes
from sae_lens_abstopk.system.files import require_space
from sae_lens_abstopk.system.shown import Facts, Shown
from sae_lens_abstopk.system.typed_values import one_or_more
from sae_lens_abstopk.vectors.rows_as_texts import RowPasses

# the activations' name among those of SAEs, which may be any text
_X = None
ROW = "row"
"""Read position of a vector."""
# most bytes of codes in memory
CHUNK_BYTES = 64 * 2**20

Rows = npt.NDArray[np.int64]


class Fallbacks(NamedTuple):
    """Counts of texts that could not be read as requested."""

    unfiltered: int = 0
    """Texts without a kept token; they are read unfiltered."""
    marked_left_out: int = 0
    """Texts whose marked token is cut off or filtered out; no probe sees them."""
    truncated: int = 0
    """Texts cut to ``MAX_LENGTH`` tokens."""


@dataclass(frozen=True, repr=False)
class Representations(Shown):
    """The result of :func:`represent`: float32 rows in temporary .npy files, removed when its context ends."""

    n: int
    """Number of texts."""
    reads: tuple[str, ...]
    """Read positions."""
    d_in: int
    d_sae: Mapping[str, int]
    """Width of each SAE, by name."""
    temporary: tempfile.TemporaryDirectory[str]
    """Owns the files."""
    fallbacks: Fallbacks = field(default_factory=Fallbacks)
    left_out: tuple[int, ...] = ()
    """Texts that have rows but cannot be probed: their marked token is cut off or filtered out."""

    @classmethod
    @contextmanager
    def _written(
        cls, n: int, reads: tuple[str, ...], d_in: int, d_sae: Mapping[str, int]
    ) -> Iterator[tuple[Self, dict[tuple[str | None, str], npt.NDArray[np.float32]]]]:
        """Provide empty files to write, by SAE and read position; they are removed on an error."""
        made = cls(
            n, reads, d_in, d_sae, tempfile.TemporaryDirectory(prefix="representations-", ignore_cleanup_errors=True)
        )
        files: dict[tuple[str | None, str], npt.NDArray[np.float32]] = {}
        try:
            needed = 4 * n * len(reads) * (d_in + sum(d_sae.values()))
            remedy = "give a folder on a larger disk by TMPDIR=FOLDER, fewer read positions, or fewer SAEs at once"
            require_space(Path(made.temporary.name), needed, "writing the representations", remedy=remedy)
            for name, width in {_X: d_in, **d_sae}.items():
                for read in reads:
                    files[name, read] = np.lib.format.open_memmap(made._path(name, read), "w+", np.float32, (n, width))
            yield made, files
        except BaseException:
            files.clear()  # Windows cannot remove a mapped file
            made.close()
            raise

    def x(self, read: str, rows: Rows | None = None) -> npt.NDArray[np.float32]:
        """Return activations [n, d_in] at a read position, all or only those of ``rows``."""
        stored = np.load(self._path(_X, read), mmap_mode="r")
        return stored if rows is None else stored[rows]

    def codes(self, sae: str, read: str) -> npt.NDArray[np.float32]:
        """Return codes [n, d_sae] at a read position, as a memory map."""
        return np.load(self._path(sae, read), mmap_mode="r")

    def latents(self, sae: str, read: str, latents: Sequence[int], rows: Rows) -> npt.NDArray[np.float32]:
        """Return the codes of some latents, [len(rows), len(latents)]."""
        return self.codes(sae, read)[rows[:, None], np.asarray(latents)[None]]

    def chunks(self, sae: str, read: str, rows: Rows) -> Iterator[npt.NDArray[np.float32]]:
        """Yield codes of ``rows`` in consecutive chunks of columns, each at most ``CHUNK_BYTES``."""
        stored = self.codes(sae, read)
        width = max(1, CHUNK_BYTES // (4 * max(len(rows), 1)))
        for start in range(0, self.d_sae[sae], width):
            yield stored[:, start : start + width][rows]

    @override
    def _facts(self) -> Facts:
        widths = {"width": self.d_in} | {f"codes of {name}": f"{width:,}" for name, width in self.d_sae.items()}
        return [{"texts": self.n, "read at": " and ".join(self.reads)} | widths | {"left out": len(self.left_out)}]

    def close(self) -> None:
        """Remove the files."""
        self.temporary.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _path(self, name: str | None, read: str) -> Path:
        # an SAE name may contain any character
        kind = "x" if name is None else f"codes_{list(self.d_sae).index(name)}"
        return Path(self.temporary.name, f"{kind}_{read}.npy")


@torch.no_grad()
@casts_shared()
def represent(
    passes: ModelPasses,
    tokenizer: Any,
    saes: Mapping[str, Codec],
    texts: Sequence[str],
    *,
    reads: Sequence[str] = ("last", "mean"),
    markers: Sequence[Marker] | None = None,
    rules: ReadingRules | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Representations:
    """
    Run ``texts`` through the model and the SAEs; keep one row for each text and read position.

    "last" is the last token, "marked" the last token of the marked word, "mean" the mean of x or of the codes over
    tokens. Tokens that the SAEs were not trained on (:class:`ReadingRules`) are left out; :class:`Fallbacks` counts
    texts without any other. Rows go to a temporary folder (TMPDIR), so that memory does not grow with the texts.

    Args:
        saes: SAEs by name; empty for x only, which needs ``rules``.
        reads: Some of "last", "mean" and "marked".
        markers: For "marked": (first, end) characters of each text's word.
        rules: By default those in the SAEs' metadata.
        on_progress: Called with (texts done, texts in all).

    Raises:
        ConfigError: SAEs cannot share a pass, an SAE gives NaN or selects over a batch, or the disk is too small.
    """
    texts = one_or_more(texts)
    for name, sae in saes.items():
        require_per_token(sae, f"the SAE {name!r}")
    rules = rules or ReadingRules.of_saes(cast(Any, saes), tokenizer)
    first = next(text_batches(passes, tokenizer, texts[:1], rules=rules)).activations[0, -1:].float()
    d_sae = {name: sae.encode(first).shape[-1] for name, sae in saes.items()}
    markers = markers if "marked" in reads else None
    with Representations._written(len(texts), tuple(reads), first.shape[-1], d_sae) as (made, files):
        fallbacks, left_out, done = made.fallbacks, list[int](), 0
        for batch in text_batches(passes, tokenizer, texts, rules=rules, markers=markers):
            reader = _TextReader(batch, reads)
            rows = batch.rows.numpy()
            for name in (_X, *saes):
                found = reader.of_activations() if name is None else reader.of_codes(name, saes[name], d_sae[name])
                for read in reads:
                    files[name, read][rows] = found[read]
            not_marked = reader.left_out()
            counts = (int((~reader.has_kept).sum()), len(not_marked), batch.truncated)
            fallbacks = Fallbacks(*(a + b for a, b in zip(fallbacks, counts, strict=True)))
            left_out += not_marked
            done += len(rows)
            if on_progress is not None:
                on_progress(done, len(texts))
    return replace(made, fallbacks=fallbacks, left_out=tuple(sorted(left_out)))


@torch.no_grad()
@casts_shared()
def represent_rows(
    passes: RowPasses,
    saes: Mapping[str, Codec],
    rows: Int[Tensor, " n"],
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> Representations:
    """
    Keep the vectors with the numbers ``rows`` and their codes, at the read position "row".

    ``on_progress`` is called with (rows done, rows in all).

    Raises:
        ConfigError: an SAE gives NaN, or the disk is too small.
    """
    first = passes.activations(rows[:1, None])[:, 0]
    d_sae = {name: sae.encode(first).shape[-1] for name, sae in saes.items()}
    size = max(1, CHUNK_BYTES // (4 * max(first.shape[-1], *d_sae.values())))
    with Representations._written(len(rows), (ROW,), first.shape[-1], d_sae) as (made, files):
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            x = passes.activations(rows[part, None])[:, 0]
            files[_X, ROW][part] = x.cpu().numpy()
            for name, sae in saes.items():
                codes = sae.encode(x)
                require_finite_codes(codes, f"SAE {name!r}")
                files[name, ROW][part] = codes.to_dense().float().cpu().numpy()
            if on_progress is not None:
                on_progress(min(start + size, len(rows)), len(rows))
    return made


class _TextReader:
    """Reduction of a batch to one row for each text and read position; only tokens that are read are encoded."""

    def __init__(self, batch: TextBatch, reads: Sequence[str]) -> None:
        self.batch = batch
        self.has_kept = batch.kept.any(1)
        self.usable = torch.where(self.has_kept[:, None], batch.kept, batch.real)
        places = torch.arange(batch.kept.shape[1], device=batch.kept.device)
        last = torch.where(self.usable, places, -1).amax(1)
        self.with_mean = "mean" in reads
        picked = {"last": last, "marked": torch.where(batch.marked < 0, last, batch.marked)}
        self.picked = {read: place for read, place in picked.items() if read in reads}
        self.texts = torch.arange(len(batch.rows), device=batch.kept.device)

    def of_activations(self) -> dict[str, npt.NDArray[np.float32]]:
        found = {read: self.batch.activations[self.texts, place] for read, place in self.picked.items()}
        if self.with_mean:
            weights = self.usable.to(torch.float32)[..., None]
            # not 0 * x: a filtered token may be a thousand times as large, which would lose precision
            total = torch.where(self.usable[..., None], self.batch.activations.float(), 0).sum(1)
            found["mean"] = total / weights.sum(1)
        return {read: values.float().cpu().numpy() for read, values in found.items()}

    def of_codes(self, name: str, sae: Codec, d_sae: int) -> dict[str, npt.NDArray[np.float32]]:
        read = self.usable.clone() if self.with_mean else torch.zeros_like(self.usable)
        for place in self.picked.values():
            read[self.texts, place] = True
        text, position = read.nonzero(as_tuple=True)
        x = self.batch.activations[text, position].float()
        found = {kind: torch.empty(len(self.texts), d_sae, device=x.device) for kind in self.picked}
        sums = torch.zeros(len(self.texts) if self.with_mean else 0, d_sae, device=x.device)
        in_mean = self.usable[text, position]
        size = max(1, CHUNK_BYTES // (4 * d_sae))
        for start in range(0, len(x), size):
            part = slice(start, start + size)
            codes = sae.encode(x[part])
            codes = (codes.to_dense() if codes.is_sparse else codes).float().to(x.device)
            require_finite_codes(codes, f"SAE {name!r}")
            if self.with_mean:
                sums.index_add_(0, text[part][in_mean[part]], codes[in_mean[part]])
            for kind, place in self.picked.items():
                here = position[part] == place[text[part]]
                found[kind][text[part][here]] = codes[here]
        if self.with_mean:
            found["mean"] = sums / self.usable.sum(1, keepdim=True)
        return {kind: values.float().cpu().numpy() for kind, values in found.items()}

    def left_out(self) -> list[int]:
        """Return the indices of texts whose marked token is cut off or filtered out."""
        if "marked" not in self.picked:
            return []
        kept = self.batch.kept[self.texts, self.picked["marked"]] & (self.batch.marked >= 0)
        return self.batch.rows[~kept.cpu()].tolist()
