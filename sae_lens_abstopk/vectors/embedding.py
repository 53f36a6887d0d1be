"""Texts as vectors: embedded by a sentence-transformers model, and cached by content."""

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from rich.console import Console
from torch import Tensor

from sae_lens_abstopk.sparse.candidates import bfloat16_is_fast
from sae_lens_abstopk.system.errors import TRANSPORT_ERRORS, ConfigError, require_choice, require_package
from sae_lens_abstopk.system.files import sampled_digest
from sae_lens_abstopk.system.precision import BFLOAT16, FLOAT32, precision_of, remembered_precision, weights_precision
from sae_lens_abstopk.vectors.row_cache import Reader, cached_rows
from sae_lens_abstopk.vectors.texts import Texts, open_texts
from sae_lens_abstopk.vectors.vector_spec import VectorSpec
from sae_lens_abstopk.vectors.vectors import Vectors, column_of, open_vectors, rows_of_part

EmbeddingType = Literal["float32", "float16"]
# texts in a batch: on a CPU, 128 were a third slower
BATCH_ON_CPU, BATCH_ON_GPU = 32, 256
# texts sorted by length and kept together, and most of their characters
BLOCK, BLOCK_CHARACTERS = 2048, 200_000
# words of the trial's texts
TRIAL_TEXTS, TRIAL_WORDS = 8, 48


class Embedder:
    """
    A sentence-transformers model that embeds texts, in bfloat16 autocast where that is clearly faster.

    Args:
        precision: ``bfloat16`` or ``float32``; by default the result of a trial, the first of this model here.

    Raises:
        ConfigError: sentence-transformers is missing, or the model cannot be loaded.
    """

    def __init__(self, model_name: str, *, precision: str | None = None, device: str = "auto") -> None:
        require_sentence_transformers()
        from sentence_transformers import SentenceTransformer

        try:
            self._model = SentenceTransformer(model_name, device=None if device == "auto" else device)
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, ImportError, *TRANSPORT_ERRORS) as error:
            first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200].rstrip(".")
            raise ConfigError(
                f"model={model_name!r} could not be loaded as a sentence-transformers model ({first_line}); check the "
                "name and the connection, or give a local folder."
            ) from error
        if precision == FLOAT32:
            self._model.float()
        known = (model_name, folder_files(Path(model_name)), self._model.device.type)
        self.precision: str = precision or remembered_precision(*known, self._find_precision)
        """The precision in which texts are embedded."""

    @cached_property
    def d_in(self) -> int:
        """Width of the embeddings."""
        return self(["width"]).shape[1]

    def __call__(self, texts: list[str]) -> Float[Tensor, "n d_in"]:
        """Embed texts, as float32 on the CPU; texts over the model's limit of tokens are cut there."""
        return self._embed(texts, autocast=self.precision == BFLOAT16)

    def _embed(self, texts: list[str], *, autocast: bool) -> Float[Tensor, "n d_in"]:
        device = self._model.device.type
        size = BATCH_ON_CPU if device == "cpu" else BATCH_ON_GPU
        with torch.autocast(device, dtype=torch.bfloat16, enabled=autocast):
            found: Any = self._model.encode(texts, batch_size=size, show_progress_bar=False, convert_to_tensor=True)
        return found.float().cpu()

    def _find_precision(self) -> str:
        words = [" ".join(["river", "ice", "keeper"] * (TRIAL_WORDS // 3))] * TRIAL_TEXTS
        with torch.autocast(self._model.device.type, enabled=False):  # keeps the weights that were cast
            return precision_of(lambda autocast: self._embed(words, autocast=autocast), weights_precision(self._model))


def embedded(
    spec: VectorSpec,
    model_name: str,
    *,
    dtype: EmbeddingType = "float32",
    precision: str | None = None,
    device: str = "auto",
    console: Console | None = None,
) -> Vectors:
    """Open the embeddings of the column ``spec.column_name`` of a data set; see :func:`embedded_texts`."""
    require_sentence_transformers()
    options: Any = {"dtype": dtype, "precision": precision, "device": device, "console": console}
    return embedded_texts(open_texts(spec), model_name, **options)


def open_rows(
    spec: VectorSpec, *, precision: str | None = None, device: str = "auto", console: Console | None = None
) -> Vectors:
    """Open the vectors of ``spec``, or the embeddings of its texts if it names a model."""
    if spec.model_name:
        return embedded(spec, spec.model_name, precision=precision, device=device, console=console)
    return open_vectors(spec)


def rows_and_width(spec: VectorSpec) -> tuple[int, int]:
    """Return the number of rows to train on and their width, without embedding the texts."""
    if spec.model_name:
        require_sentence_transformers()
        texts = open_texts(spec)
        group = None if spec.group is None else column_of(texts.table, spec.group, texts.name)
        rows = rows_of_part(texts.name, len(texts), group, spec.held_out_every, "train")
        return len(rows), Embedder(spec.model_name, device="cpu").d_in
    vectors = open_vectors(spec)
    return len(vectors.part(spec, "train")), vectors.d_in


def embedded_texts(
    texts: Texts,
    model_name: str,
    *,
    dtype: EmbeddingType = "float32",
    precision: str | None = None,
    device: str = "auto",
    console: Console | None = None,
) -> Vectors:
    """
    Open the embeddings of texts, with the columns of their data set.

    Embeddings are kept in the package's cache, by model, texts and type: a second call reads them from the disk, and a
    call after an interrupted one continues it. Empty texts are embedded like any other, and ``console`` reports them.

    Args:
        model_name: A sentence-transformers model: a Hub id, or a local folder, which is known by its files.
        dtype: Type in the cache.
        precision: ``bfloat16`` or ``float32``; by default the faster one, by :func:`embedding_precision`.
        device: Device of the model.

    Raises:
        ConfigError: sentence-transformers or the model is missing, or the disk is too small.
    """
    require_choice("dtype", dtype, ("float32", "float16"))
    require_sentence_transformers()
    console = console or Console(quiet=True)
    digest, n_empty = texts.digest()
    if n_empty:
        console.print(f"{n_empty:,} of {len(texts):,} texts are empty; they are embedded like any text", style="dim")
    precision = precision or embedding_precision(model_name, device=device)
    facts = [model_name, folder_files(Path(model_name)), digest, precision]

    def open_reader() -> Reader:
        embed = Embedder(model_name, precision=precision, device=device)
        blocks = _blocks(texts)
        return Reader(embed.d_in, blocks, [len(rows) for rows in blocks], lambda n: embed(texts.read(blocks[n])))

    progress: Any = {"console": console, "doing": "embedding", "unit": "texts"}
    stored = cached_rows(Path(model_name).name, facts, len(texts), open_reader, dtype=dtype, **progress)
    return Vectors(f"{texts.name}, embedded by {model_name}", stored.chunks, texts.table, stored.mapped)


def precision_of_training(device: str) -> str:
    """Return the precision in which training runs embed, by the processor, so that runs stay as they were."""
    on = torch.device(device)
    return BFLOAT16 if on.type == "cuda" or bfloat16_is_fast(on) else FLOAT32


def embedding_precision(model_name: str, *, device: str = "auto") -> str:
    """Return the precision in which a model embeds texts here; only the first call ever loads it, for a trial."""
    require_sentence_transformers()
    from sentence_transformers.util import get_device_name

    on = torch.device(get_device_name() if device == "auto" else device).type
    known = (model_name, folder_files(Path(model_name)), on)
    return remembered_precision(*known, lambda: Embedder(model_name, device=device).precision)


def _blocks(texts: Texts) -> list[range]:
    """Return consecutive rows of at most ``BLOCK`` texts and ``BLOCK_CHARACTERS``, or one text."""
    blocks, start, size = list[range](), 0, 0
    for row, length in enumerate(texts.lengths()):
        if row > start and (size + length > BLOCK_CHARACTERS or row - start == BLOCK):
            blocks.append(range(start, row))
            start, size = row, 0
        size += length
    return [*blocks, range(start, len(texts))]


def require_sentence_transformers() -> None:
    """Raise a :class:`ConfigError` if sentence-transformers is not installed."""
    require_package("sentence_transformers", "embedding texts", extra="embeddings")


def folder_files(folder: Path) -> list[tuple[str, str]]:
    """Return name and digest of each file of a local model, tokenizer included; an empty list for a Hub model."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()] if folder.is_dir() else []
    return [(path.relative_to(folder).as_posix(), sampled_digest(path)) for path in files]
