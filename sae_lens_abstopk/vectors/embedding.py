"""Texts as vectors: embedded by a sentence-transformers model, and cached by content."""

from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from rich.console import Console
from torch import Tensor

from sae_lens_abstopk.sparse.candidates import bfloat16_is_fast
from sae_lens_abstopk.system.errors import TRANSPORT_ERRORS, ConfigError, require_choice, require_package
from sae_lens_abstopk.system.files import sampled_digest
from sae_lens_abstopk.vectors.row_cache import Reader, cached_rows
from sae_lens_abstopk.vectors.texts import Texts, open_texts
from sae_lens_abstopk.vectors.vector_spec import VectorSpec
from sae_lens_abstopk.vectors.vectors import Vectors, column_of, open_vectors, rows_of_part

EmbeddingType = Literal["float32", "float16"]
# texts in a batch: on a CPU, 128 were a third slower
BATCH_ON_CPU, BATCH_ON_GPU = 32, 256


class Embedder:
    """
    A sentence-transformers model that embeds texts, in bfloat16 autocast on a GPU or on a CPU that is fast at it.

    Raises:
        ConfigError: sentence-transformers is missing, or the model cannot be loaded.
    """

    def __init__(self, model_name: str, *, device: str = "auto") -> None:
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
        self._autocast = self._model.device.type == "cuda" or bfloat16_is_fast(self._model.device)
        self.d_in: int = self(["width"]).shape[1]
        """Width of the embeddings."""

    def __call__(self, texts: list[str]) -> Float[Tensor, "n d_in"]:
        """Embed texts, as float32 on the CPU; texts over the model's limit of tokens are cut there."""
        device = self._model.device.type
        size = BATCH_ON_CPU if device == "cpu" else BATCH_ON_GPU
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self._autocast):
            found: Any = self._model.encode(texts, batch_size=size, show_progress_bar=False, convert_to_tensor=True)
        return found.float().cpu()


def embedded(
    spec: VectorSpec,
    model_name: str,
    *,
    dtype: EmbeddingType = "float32",
    device: str = "auto",
    console: Console | None = None,
) -> Vectors:
    """Open the embeddings of the column ``spec.column_name`` of a data set; see :func:`embedded_texts`."""
    require_sentence_transformers()
    return embedded_texts(open_texts(spec), model_name, dtype=dtype, device=device, console=console)


def open_rows(spec: VectorSpec, *, device: str = "auto", console: Console | None = None) -> Vectors:
    """Open the vectors of ``spec``, or the embeddings of its texts if it names a model."""
    if spec.model_name:
        return embedded(spec, spec.model_name, device=device, console=console)
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
    facts = [model_name, folder_files(Path(model_name)), digest]

    def open_reader() -> Reader:
        embed = Embedder(model_name, device=device)
        return Reader(embed.d_in, lambda rows: embed(texts.read(rows)))

    stored = cached_rows(
        Path(model_name).name, facts, len(texts), open_reader, dtype=dtype, console=console, doing="embedding"
    )
    return Vectors(f"{texts.name}, embedded by {model_name}", stored.chunks, texts.table, stored.mapped)


def require_sentence_transformers() -> None:
    """Raise a :class:`ConfigError` if sentence-transformers is not installed."""
    require_package("sentence_transformers", "embedding texts", extra="embeddings")


def folder_files(folder: Path) -> list[tuple[str, str]]:
    """Return name and digest of each file of a local model, tokenizer included; an empty list for a Hub model."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()] if folder.is_dir() else []
    return [(path.relative_to(folder).as_posix(), sampled_digest(path)) for path in files]
