"""Activations and codes of texts at chosen read positions, one row per text, on disk."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from sae_lens_abstopk.model.autocast import casts_shared
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.read_positions import CHUNK_BYTES, READS, Fallbacks, TextReader
from sae_lens_abstopk.model.text_batches import Marker, ReadingRules, text_batches
from sae_lens_abstopk.saes.batch_selection import selects_over_batch
from sae_lens_abstopk.saes.codec import Codec
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.files import lack_of_space
from sae_lens_abstopk.system.typed_values import one_or_more

# the activations' name among those of SAEs, which may be any text
_X = None

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Representations:
    """
    The result of :func:`represent`: float32 rows in memory-mapped .npy files in a temporary folder.

    A context manager that removes the files on exit.
    """

    n: int
    """Number of texts."""
    reads: tuple[str, ...]
    """Read positions."""
    d_in: int
    d_sae: Mapping[str, int]
    """Width of each SAE, by name."""
    temporary: tempfile.TemporaryDirectory[str] = field(repr=False)
    """Owns the files."""
    fallbacks: Fallbacks = field(default_factory=Fallbacks)
    left_out: tuple[int, ...] = ()
    """Texts that have rows but cannot be probed: their marked token is cut off or filtered out."""

    @classmethod
    def _create(cls, n: int, reads: tuple[str, ...], d_in: int, d_sae: Mapping[str, int]) -> Self:
        """Make empty files."""
        made = cls(
            n, reads, d_in, d_sae, tempfile.TemporaryDirectory(prefix="representations-", ignore_cleanup_errors=True)
        )
        try:
            needed = 4 * n * len(reads) * (d_in + sum(d_sae.values()))
            if lack := lack_of_space(made.folder, needed, "writing the representations"):
                raise ConfigError(
                    f"{lack}; give a folder on a larger disk by TMPDIR=FOLDER, fewer read positions, or fewer SAEs at "
                    "once."
                )
            for name, width in {_X: d_in, **d_sae}.items():
                for read in reads:
                    np.lib.format.open_memmap(made._path(name, read), "w+", np.float32, (n, width))
        except BaseException:
            made.close()
            raise
        return made

    @property
    def folder(self) -> Path:
        """Folder of the files."""
        return Path(self.temporary.name)

    def x(self, read: str, rows: Rows | None = None) -> npt.NDArray[np.float32]:
        """Return activations [n, d_in] at a read position, all or only those of ``rows``."""
        stored = self._open(_X, read)
        return stored if rows is None else stored[rows]

    def codes(self, sae: str, read: str) -> npt.NDArray[np.float32]:
        """Return codes [n, d_sae] at a read position, as a memory map."""
        return self._open(sae, read)

    def latents(self, sae: str, read: str, latents: Sequence[int], rows: Rows) -> npt.NDArray[np.float32]:
        """Return the codes of some latents, [len(rows), len(latents)]."""
        return self.codes(sae, read)[rows[:, None], np.asarray(latents)[None]]

    def chunks(self, sae: str, read: str, rows: Rows) -> Iterator[npt.NDArray[np.float32]]:
        """Yield codes of ``rows`` in consecutive chunks of columns, each at most ``CHUNK_BYTES``."""
        stored = self.codes(sae, read)
        width = max(1, CHUNK_BYTES // (4 * max(len(rows), 1)))
        for start in range(0, self.d_sae[sae], width):
            yield stored[:, start : start + width][rows]

    def close(self) -> None:
        """Remove the files."""
        self.temporary.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _path(self, name: str | None, read: str) -> Path:
        known = (_X, *self.d_sae)
        if name not in known:
            raise ConfigError(f"there is no SAE {name!r} here; there are {', '.join(self.d_sae) or 'none'}.")
        if read not in self.reads:
            raise ConfigError(f"read={read!r} was not computed; use one of {', '.join(self.reads)}.")
        # an SAE name may contain any character
        return self.folder / f"{'x' if name is _X else f'codes_{known.index(name)}'}_{read}.npy"

    def _open(self, name: str | None, read: str, *, mode: Any = "r") -> npt.NDArray[np.float32]:
        path = self._path(name, read)
        if not path.is_file():
            raise ConfigError(
                "the files of these representations are gone, as they are in a `with` block once it ends; use them "
                "inside it."
            )
        return np.load(path, mmap_mode=mode)


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
        passes: The language model and the hook that all ``saes`` read.
        tokenizer: The model's tokenizer.
        saes: SAEs by name; empty for x only, which needs ``rules``.
        texts: Text i becomes row i.
        reads: Some of "last", "mean" and "marked".
        markers: For "marked": (first, end) characters of each text's word.
        rules: By default those in the SAEs' metadata.
        on_progress: Called with (texts done, texts in all).

    Raises:
        ConfigError: a read position is unknown, a marker is missing, SAEs cannot share a pass, an SAE gives NaN or
            selects over a batch, or the disk is too small.
    """
    texts = one_or_more(texts)
    for name, sae in saes.items():
        if selects_over_batch(sae):
            raise ConfigError(
                f"SAE {name!r} selects over the batch that it is given, so that the codes of a text would depend on "
                "the others; take what save_inference_model(FOLDER) saves of it."
            )
    rules = rules or ReadingRules.of_saes(saes, tokenizer)
    _check(texts, reads, markers)
    d_in, d_sae = _widths(passes, tokenizer, saes, texts, rules)
    made = Representations._create(len(texts), tuple(reads), d_in, d_sae)
    files: dict[tuple[str | None, str], npt.NDArray[np.float32]] = {}
    try:
        fallbacks, done = made.fallbacks, 0
        left_out: list[int] = []
        files |= {(name, read): made._open(name, read, mode="r+") for name in (_X, *saes) for read in reads}
        for batch in text_batches(
            passes,
            tokenizer,
            texts,
            rules=rules,
            markers=markers if "marked" in reads else None,
        ):
            reader = TextReader(batch, reads)
            rows = batch.rows.numpy()
            for read, values in reader.of_activations().items():
                files[_X, read][rows] = values
            for name, sae in saes.items():
                for read, values in reader.of_codes(name, sae, d_sae[name]).items():
                    files[name, read][rows] = values
            fallbacks = Fallbacks(*(a + b for a, b in zip(fallbacks, reader.fallbacks(), strict=True)))
            left_out += reader.left_out()
            done += len(rows)
            if on_progress is not None:
                on_progress(done, len(texts))
    except BaseException:
        files.clear()  # Windows cannot remove a mapped file
        made.close()
        raise
    return replace(made, fallbacks=fallbacks, left_out=tuple(sorted(left_out)))


def _check(texts: Sequence[str], reads: Sequence[str], markers: Sequence[Marker] | None) -> None:
    unknown = [read for read in reads if read not in READS]
    if unknown or not reads or len(set(reads)) < len(reads):
        raise ConfigError(f"reads={list(reads)!r} must be one or more of {', '.join(READS)}, each once.")
    if not texts:
        raise ConfigError("there are no texts to represent.")
    if "marked" in reads and (markers is None or len(markers) != len(texts) or None in markers):
        lacking = "no markers" if markers is None else f"{sum(m is not None for m in markers)} markers"
        raise ConfigError(
            f"reads has 'marked', which needs a marker for each of the {len(texts)} texts; got {lacking}."
        )


def _widths(
    passes: ModelPasses,
    tokenizer: Any,
    saes: Mapping[str, Codec],
    texts: Sequence[str],
    rules: ReadingRules,
) -> tuple[int, dict[str, int]]:
    """Return the widths of the hook and of the codes, from the first text."""
    batch = next(text_batches(passes, tokenizer, texts[:1], rules=rules))
    x = batch.activations[0, -1:].float()
    for name, sae in saes.items():
        wanted = getattr(getattr(sae, "cfg", None), "d_in", x.shape[-1])
        if wanted != x.shape[-1]:
            raise ConfigError(
                f"SAE {name!r} reads activations {wanted} wide, but those at {passes.hook_name!r} are {x.shape[-1]} "
                "wide; it belongs to another model or hook."
            )
    return x.shape[-1], {name: sae.encode(x).shape[-1] for name, sae in saes.items()}
