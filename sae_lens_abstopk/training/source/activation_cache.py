"""Activations of one hook on disk: filled by the first run that needs them, read by later ones."""

import json
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from pydantic import BaseModel, NonNegativeInt
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sae_lens_abstopk.model.model_shape import model_files
from sae_lens_abstopk.saes.loading import ESTIMATED
from sae_lens_abstopk.system.errors import ConfigError, TrainingStopped
from sae_lens_abstopk.system.files import file_sha256, inside, reading, reason_of, require_space, sync, write_whole
from sae_lens_abstopk.system.folder_lock import LOCK, acquire
from sae_lens_abstopk.text.text_files import same_text_files, text_files
from sae_lens_abstopk.training.config.training_config import TrainingConfig

MANIFEST = "activations.json"
# a shard is written once it has this size; it is read and hashed whole
SHARD_BYTES = 64 * 2**20
DEFINING_KEYS = (
    *("model_name", "model_class_name", "model_from_pretrained_kwargs", "hook_name", "hook_head_index"),
    *("dataset_path", "dataset_name", "split", "column_name", "shuffle", "streaming", "held_out_every"),
    *("context_size", "prepend_bos", "sequence_separator_token", "disable_concat_sequences", "use_chat_formatting"),
    *("seqpos_slice", "exclude_special_tokens", "store_batch_size_prompts", "max_norm_multiple", "autocast_lm"),
    *("model_kwargs", "cached_activations_path", "is_dataset_tokenized", "use_cached_activations", "dtype"),
)
"""Config keys that decide the activations and their order."""
# manifest keys: name, size and digest of local files, which may change between two runs
TEXT_FILES, MODEL_FILES = "text files", "model files"


class CacheNotWrittenError(TrainingStopped):
    """A shard could not be written; earlier ones are intact."""


class Shard(BaseModel):
    file: str
    rows: list[NonNegativeInt]
    """Number of tokens of each LM batch."""
    sha256: str


class Manifest(BaseModel):
    """Content of a cache, stored in ``activations.json``."""

    defined_by: dict[str, Any]
    max_norm: float | None
    """Tokens with a larger activation norm are left out."""
    skipped_batches: NonNegativeInt
    """LM batches that were read to find ``max_norm``."""
    shards: list[Shard]


class ActivationCache:
    """
    Blocks of activations, one per LM batch, in bfloat16 safetensors shards.

    A shard is written under another name, synced, renamed and then entered in the manifest, so that an interrupted run
    leaves only whole shards. The run that computes rows rounds them to bfloat16 too, so it sees what later runs see.

    Args:
        folder: Made if missing.
        defined_by: The settings and files that decide the activations.
    """

    def __init__(self, folder: Path, defined_by: dict[str, Any]) -> None:
        self.folder = folder
        # with prefetching, one thread reads and another closes
        self._lock = FileLock(folder / LOCK, thread_local=False)
        self._pending: list[torch.Tensor] = []
        self.manifest = Manifest(defined_by=defined_by, max_norm=None, skipped_batches=0, shards=[])
        if (path := folder / MANIFEST).is_file():
            self.manifest = _read_manifest(path)
            theirs, texts = self.manifest.defined_by, defined_by.get(TEXT_FILES)
            if texts is not None and same_text_files(theirs.get(TEXT_FILES), texts):
                theirs = theirs | {TEXT_FILES: texts}
            differences = "; ".join(
                f"{key} is {theirs.get(key, 'not noted')!r} there, {defined_by.get(key, 'not noted')!r} here"
                for key in theirs | defined_by
                if theirs.get(key) != defined_by.get(key)
            )
            problem = f"holds other activations: {differences}. Name another folder, or delete it" * bool(differences)
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            problem = f"is not an activation cache (no {MANIFEST}); name a new or empty folder"
        else:
            problem = ""
        if problem:
            raise ConfigError(f"activation_cache={str(folder)!r} {problem}.")

    @classmethod
    def of_run(cls, cfg: TrainingConfig) -> "ActivationCache":
        assert cfg.activation_cache is not None
        return cls(Path(cfg.activation_cache), activation_facts(cfg))

    @property
    def n_rows(self) -> int:
        """Number of rows that are stored or wait to be stored."""
        return sum(sum(shard.rows) for shard in self.manifest.shards) + sum(len(block) for block in self._pending)

    @property
    def is_new(self) -> bool:
        return not (self.folder / MANIFEST).is_file()

    def require_room(self, cfg: TrainingConfig) -> None:
        """Raise a :class:`ConfigError` if the activations of a run do not fit on the disk."""
        rows = _rows_served(cfg) + cfg.n_batches_in_buffer * cfg.text_spec.kept_positions - self.n_rows
        needed = rows * cfg.sae.d_in * torch.bfloat16.itemsize
        remedy = "free some, name a folder on another disk, or leave activation_cache out"
        require_space(self.folder, needed, "activation_cache", remedy=remedy)

    def lacks_rows(self, cfg: TrainingConfig) -> bool:
        """Return whether the cache has fewer rows than a run needs."""
        return self.n_rows < _rows_served(cfg)

    def begin(self, *, max_norm: float | None, skipped_batches: int) -> None:
        """Record the norm above which tokens are left out, and how many LM batches were read to find it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._filling():
            if self.is_new:
                self.manifest.max_norm, self.manifest.skipped_batches = max_norm, skipped_batches
                self._write_manifest()

    def blocks(self, compute_from: Callable[[int], Iterator[torch.Tensor]], start: int = 0) -> Iterator[torch.Tensor]:
        """
        Yield blocks [n, d_in], bfloat16, on the CPU, but for the first ``start``: those on disk, then new ones.

        ``compute_from`` computes the blocks after a number of LM batches; they are stored as they come.
        """
        n_read = yield from self._stored(0, start)
        with self._filling():
            yield from self._stored(n_read, start)  # another process may have added shards
            n_seen = sum(len(shard.rows) for shard in self.manifest.shards)
            yield from self._computed(compute_from(n_seen), start - n_seen)

    @contextmanager
    def _filling(self) -> Iterator[None]:
        """Keep other processes from filling the cache, and read the manifest again."""
        try:
            acquire(self._lock)
        except Timeout:
            raise ConfigError(
                f"activation_cache={str(self.folder)!r} is being filled by another process; wait, or name another "
                "folder."
            ) from None
        try:
            if not self.is_new:
                self.manifest = _read_manifest(self.folder / MANIFEST)
            yield
        finally:
            self._lock.release()

    def _stored(self, n_read: int, start: int) -> Generator[torch.Tensor, None, int]:
        """Yield the blocks of the shards after the first ``n_read``; return the number of shards."""
        n_seen = sum(len(shard.rows) for shard in self.manifest.shards[:n_read])
        while n_read < len(self.manifest.shards):
            n_blocks, skip = len(self.manifest.shards[n_read].rows), max(0, start - n_seen)
            if skip < n_blocks:
                yield from self._load(n_read)[skip:]
            n_seen, n_read = n_seen + n_blocks, n_read + 1
        return n_read

    def _computed(self, blocks: Iterator[torch.Tensor], skip: int) -> Iterator[torch.Tensor]:
        try:
            for i, block in enumerate(blocks):
                half = block.bfloat16().cpu()
                self._pending.append(half)
                if sum(each.nbytes for each in self._pending) >= SHARD_BYTES:
                    self._store_pending()
                if i >= skip:
                    yield half
        finally:  # the run has all rows that it needs
            if self._pending:
                try:
                    self._store_pending()
                except CacheNotWrittenError as error:  # the next run computes them again
                    warnings.warn(str(error), stacklevel=2)

    def _store_pending(self) -> None:
        blocks, self._pending = self._pending, []
        file = f"activations-{len(self.manifest.shards):05d}.safetensors"
        partial = self.folder / f"{file}.partial"
        try:
            save_file({"activations": torch.cat(blocks)}, partial)
            shard = Shard(file=file, rows=[len(block) for block in blocks], sha256=file_sha256(partial))
            sync(partial)
            partial.replace(self.folder / file)
            self.manifest.shards.append(shard)
            self._write_manifest()
        except (OSError, SafetensorError) as error:
            partial.unlink(missing_ok=True)
            raise CacheNotWrittenError(
                f"activation_cache={str(self.folder)!r} could not be written ({reason_of(error)}); its earlier "
                "content is intact. Fix the cause, then continue with --resume."
            ) from error

    def _load(self, number: int) -> Sequence[torch.Tensor]:
        shard = self.manifest.shards[number]
        path = inside(self.folder, shard.file, where=str(self.folder / MANIFEST))
        with reading(path, f"delete {self.folder}, which the next run fills again, or name another activation_cache"):
            if file_sha256(path) != shard.sha256:
                raise ValueError("its SHA-256 differs")
            return load_file(path)["activations"].split(shard.rows)

    def _write_manifest(self) -> None:
        write_whole(self.folder / MANIFEST, self.manifest.model_dump_json(indent=1) + "\n")


def _rows_served(cfg: TrainingConfig) -> int:
    """Return the number of rows that a run reads, to train or to estimate a scale."""
    batches = cfg.total_training_steps
    if any(sae.normalize_activations in ESTIMATED for sae in cfg.all_saes.values()):
        batches += cfg.n_batches_for_norm_estimate
    return batches * cfg.train_batch_size_tokens


def activation_facts(cfg: TrainingConfig) -> dict[str, Any]:
    """Return everything that decides the activations of ``cfg`` and their order, local files included, as JSON."""
    values = {key: getattr(cfg, key) for key in DEFINING_KEYS}
    if cfg.source == "model_difference":
        values |= {key: getattr(cfg, key) for key in ("source", "tuned_model", "adapter", "exclude_chat_template")}
    values["seed"] = cfg.seed if cfg.shuffle else None  # the seed only orders the text
    values[TEXT_FILES] = text_files(cfg.dataset_path)
    values[MODEL_FILES] = model_files(cfg.model_name) + model_files(cfg.tuned_model or cfg.adapter or "")
    return json.loads(json.dumps(values, default=str))


def _read_manifest(path: Path) -> Manifest:
    with reading(path, "delete this activation cache, or name another"):
        return Manifest.model_validate_json(path.read_bytes())
