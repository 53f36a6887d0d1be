"""Activations of a language model: SAELens's store with filters, a cache on disk and a position to resume from."""

import warnings
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple, Self, TypeVar

import torch
from datasets import Dataset, IterableDataset
from sae_lens.training.prefetch import PrefetchingIterator
from transformer_lens.HookedRootModule import HookedRootModule
from typing_extensions import override

from sae_lens_abstopk.model.inference import casts_shared
from sae_lens_abstopk.model.text_store import TextStore
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.ranks import averaged, n_ranks, this_rank
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.source.activation_cache import ActivationCache
from sae_lens_abstopk.training.source.activation_source import NonFiniteActivationsError, SourcePosition
from sae_lens_abstopk.training.source.mixing_buffer import MixingBuffer

# LM batches that the median norm of `max_norm_multiple` is measured on
NORM_CALIBRATION_BATCHES = 4
# contexts tokenised ahead
READ_AHEAD = 256
# LM batches per cast of the weights under autocast; all are held at once
BATCHES_PER_CAST = 8

RECORDED = (
    *("dataset_path", "hook_name", "model_name", "model_class_name", "hook_head_index", "context_size"),
    *("seqpos_slice", "model_from_pretrained_kwargs", "prepend_bos", "exclude_special_tokens"),
    *("sequence_separator_token", "disable_concat_sequences", "dataset_name", "split", "held_out_every"),
)
"""Config keys in the metadata of the SAEs: SAELens's and a few more."""

T = TypeVar("T")


class RawBatch(NamedTuple):
    """One LM batch."""

    activations: torch.Tensor
    """[n_tokens, d_in]."""
    token_ids: torch.Tensor | None
    """[n_tokens]; None if they are not needed."""
    own_norms: torch.Tensor | None = None
    """Norms [n_tokens] that the norm limit applies to, if not those of ``activations``."""

    @property
    def norms(self) -> torch.Tensor:
        return self.activations.float().norm(dim=-1) if self.own_norms is None else self.own_norms

    def rows(self, kept: torch.Tensor) -> "RawBatch":
        """Return the rows of a mask [n_tokens]."""
        index = kept.nonzero()[:, 0]  # the only time that the host waits for a GPU
        ids, norms = (None if each is None else each[index] for each in (self.token_ids, self.own_norms))
        return RawBatch(self.activations[index], ids, norms)


class LanguageModelSource(TextStore):
    """
    An :class:`.ActivationSource` over SAELens's activation store.

    Tokens whose activation norm exceeds ``max_norm`` are dropped: in some models a few tokens have a hundred times the
    usual norm ("massive activations", often at the first position) and hold most of the variance.

    To keep a GPU busy, a thread tokenises text ahead, and the language model gets its next batch before the last one is
    filtered.
    """

    max_norm: float | None = None
    n_llm_batches: int = 0
    n_blocks: int = 0
    """Number of blocks that went into the buffer."""
    cache: ActivationCache | None = None
    generator: torch.Generator | None = None
    """Random generator that shuffles the buffer."""
    recorded: dict[str, Any]
    recorded_keys = RECORDED
    _buffer: MixingBuffer | None = None
    _blocks: Generator[torch.Tensor, None, None] | None = None
    _reads_ahead: bool = False

    @classmethod
    def for_training(
        cls, model: HookedRootModule, cfg: TrainingConfig, documents: Dataset | IterableDataset, **own: Any
    ) -> Self:
        """
        Make the source of a run; with ``max_norm_multiple`` the first batches are read for the median norm.

        ``own`` are attributes of a subclass.
        """
        store = cls.of_specs(
            model,
            cfg.model_spec,
            cfg.text_spec,
            documents,
            d_in=cfg.sae.d_in,
            n_batches_in_buffer=cfg.n_batches_in_buffer,
            total_training_tokens=cfg.training_tokens,
            train_batch_size_tokens=cfg.train_batch_size_tokens // n_ranks(),
            normalize_activations=cfg.sae.normalize_activations,
            device=torch.device(str(cfg.act_store_device)),
            dtype=cfg.dtype,
            cached_activations_path=cfg.cached_activations_path if cfg.use_cached_activations else None,
            activations_mixing_fraction=cfg.activations_mixing_fraction,
        )
        vars(store).update(own)
        # its own generator, because a prefetching thread draws from it at any time
        store.generator = torch.Generator().manual_seed(cfg.seed + this_rank())
        store.recorded = {key: getattr(cfg, key) for key in cls.recorded_keys}
        cached = store.cached_activation_dataset
        if cached is not None and cfg.exclude_special_tokens and "token_ids" not in cached.column_names:
            raise ConfigError(
                f"cached_activations_path={cfg.cached_activations_path!r} holds no token_ids, which "
                "exclude_special_tokens needs; cache the activations again, or set exclude_special_tokens to false."
            )
        _warn_missing_tokens(getattr(model, "tokenizer", None), cfg)
        if cfg.activation_cache is not None:
            store.cache = ActivationCache.of_run(cfg)
        if store.cache is None or store.cache.is_new:
            if cfg.max_norm_multiple is not None:
                try:
                    store.max_norm = cfg.max_norm_multiple * store.median_norm()
                except StopIteration:
                    raise store._too_little_text() from None
            if store.cache is not None:
                store.cache.begin(max_norm=store.max_norm, skipped_batches=store.n_llm_batches)
        if store.cache is not None:
            store.max_norm = store.cache.manifest.max_norm
        return store

    def metadata(self) -> dict[str, Any]:
        return self.recorded | {"max_activation_norm": self.max_norm}

    def batches(self) -> Iterator[torch.Tensor]:
        """Yield batches [train_batch_size_tokens, d_in]; on several ranks, this rank's share of each."""
        return iter(self)

    def median_norm(self) -> float:
        """Return the median norm of the next few LM batches, averaged over ranks."""
        norms = [self._kept(self.raw_batch()).norms for _ in range(NORM_CALIBRATION_BATCHES)]
        return averaged(torch.cat(norms).median()).item()

    @override
    def get_filtered_llm_batch(self, raise_on_epoch_end: bool = False) -> torch.Tensor:
        return self._kept(self.raw_batch(raise_on_epoch_end)).activations

    def raw_batch(self, raise_on_epoch_end: bool = False) -> RawBatch:
        """Run the language model on the next batch; StopIteration at the end of the text, if wanted."""
        return RawBatch(*self.get_raw_llm_batch(raise_on_epoch_end=raise_on_epoch_end))

    def _kept(self, batch: RawBatch) -> RawBatch:
        if batch.token_ids is not None and self.exclude_special_tokens is not None:
            batch = batch.rows(~torch.isin(batch.token_ids, self.exclude_special_tokens))
        self.n_llm_batches += 1
        norms = batch.norms
        checked = norms if batch.own_norms is None else norms + batch.activations.float().norm(dim=-1)
        # NaN and infinity both make the sum of the norms non-finite, so the host waits for one number only
        if not checked.sum().isfinite():
            bad = int((~checked.isfinite()).sum())
            raise NonFiniteActivationsError(
                f"{bad} of {len(norms)} activations of {self.hook_name} are NaN or infinite in language-model batch "
                f"{self.n_llm_batches}; run the model in a wider type (autocast_lm=false, or a float32 or bfloat16 "
                "model) or leave that text out."
            )
        return batch if self.max_norm is None else batch.rows(norms <= self.max_norm)

    @override
    def get_data_loader(self) -> Iterator[torch.Tensor]:
        if not self._reads_ahead:
            self._reads_ahead = True
            self.iterable_sequences = self._read_ahead(self.iterable_sequences)
        self._blocks = self._counted_blocks()
        self._buffer = MixingBuffer(
            self._blocks,
            buffer_size=self.n_batches_in_buffer * self.training_context_size,
            batch_size=self.train_batch_size_tokens,
            mix_fraction=self.activations_mixing_fraction,
            generator=self.generator,
        )
        # half precision is too coarse for scaling or whitening
        return (batch.float() if batch.dtype.itemsize < 4 else batch for batch in self._buffer)

    def close(self) -> None:
        """Stop reading ahead and write the rest of a cache; a later read starts at the first document."""
        for stream in (self._blocks, self.iterable_sequences):
            if isinstance(stream, Generator):
                stream.close()
        self._dataloader = self._buffer = self._blocks = None
        self._reads_ahead = False
        self.iterable_sequences = self._iterate_tokenized_sequences()

    def position(self) -> SourcePosition:
        assert self.generator is not None
        served, waiting = (torch.empty(0, 0),) * 2 if self._buffer is None else self._buffer.rows()
        return SourcePosition(self.n_blocks, self.max_norm, served, waiting, self.generator.get_state())

    def go_to(self, position: SourcePosition, on_progress: Callable[[int, int], None] = lambda *_: None) -> None:
        """Read the text of a new source up to ``position``, without running the language model."""
        if self.cache is None:
            self._skip(position.n_blocks, on_progress)
        self.n_blocks, self.max_norm = position.n_blocks, position.max_norm
        self._dataloader = self.get_data_loader()
        assert self._buffer is not None
        assert self.generator is not None
        self._buffer.refill(position.served.to(self.device), position.waiting.to(self.device))
        self.generator.set_state(position.generator)

    def _skip(self, n_batches: int, on_progress: Callable[[int, int], None] = lambda *_: None) -> None:
        def skip(raise_on_epoch_end: bool) -> None:
            if self.cached_activation_dataset is None:
                self.get_batch_tokens(raise_at_epoch_end=raise_on_epoch_end, move_to_model_device=False)
            else:
                self.get_raw_llm_batch(raise_on_epoch_end=raise_on_epoch_end)

        for i in range(n_batches):
            self._into_next_epoch(skip)
            on_progress(i + 1, n_batches)
        self.n_llm_batches += n_batches

    def _counted_blocks(self) -> Generator[torch.Tensor, None, None]:
        blocks: Iterator[torch.Tensor] = self._iterate_filtered_activations()
        if self.cache is not None:
            blocks = self.cache.blocks(self._blocks_from, start=self.n_blocks)
        for block in blocks:
            self.n_blocks += 1
            yield block.to(self.device)  # a cache gives bfloat16 on the CPU

    @override
    def _iterate_filtered_activations(self) -> Generator[torch.Tensor, None, None]:
        if self.autocast_lm:
            while True:
                with casts_shared():
                    batches = [self._next_raw_batch() for _ in range(BATCHES_PER_CAST)]
                while batches:  # freed one by one, so that few are left when the next ones are made
                    yield self._kept(batches.pop(0)).activations
        waiting = self._next_raw_batch()
        while True:
            launched = self._next_raw_batch()
            yield self._kept(waiting).activations
            waiting = launched

    def _next_raw_batch(self) -> RawBatch:
        return self._into_next_epoch(self.raw_batch)

    def _into_next_epoch(self, read: Callable[[bool], T]) -> T:
        """Call ``read``; if it raises the end of the text, restart the text and call it again."""
        try:
            return read(True)
        except StopIteration:
            warnings.warn("the training text has ended; it is read again from its start", stacklevel=2)
        try:
            return read(False)
        except StopIteration:
            raise self._too_little_text() from None

    def _too_little_text(self) -> ConfigError:
        return ConfigError(
            "the training text does not fill one batch of the language model; give more text, or lower "
            f"store_batch_size_prompts={self.store_batch_size_prompts} or context_size={self.context_size}."
        )

    def _blocks_from(self, n_batches: int) -> Iterator[torch.Tensor]:
        """Yield filtered blocks after the first ``n_batches``, which the cache has."""
        assert self.cache is not None
        for _ in range(self.cache.manifest.skipped_batches - self.n_llm_batches):
            self.get_batch_tokens()
        self._skip(n_batches)
        return self._iterate_filtered_activations()

    @override
    def _iterate_tokenized_sequences(self) -> Generator[torch.Tensor, None, None]:
        sequences = super()._iterate_tokenized_sequences()
        yield from self._read_ahead(sequences) if self._reads_ahead else sequences

    def _read_ahead(self, sequences: Iterator[torch.Tensor]) -> Generator[torch.Tensor, None, None]:
        """Yield sequences that a thread tokenises."""
        ahead = PrefetchingIterator(sequences, READ_AHEAD)
        try:
            yield from ahead
        finally:
            ahead.close()


def _warn_missing_tokens(tokenizer: Any, cfg: TrainingConfig) -> None:
    """Warn if the tokenizer lacks the token of ``prepend_bos`` or ``sequence_separator_token``: SAELens adds none."""
    if tokenizer is None or cfg.is_dataset_tokenized or cfg.use_cached_activations:
        return
    lacking = []
    if cfg.prepend_bos and tokenizer.bos_token_id is None:
        lacking.append("contexts begin without a BOS; set prepend_bos=false")
    separator = None if cfg.disable_concat_sequences else cfg.sequence_separator_token
    if isinstance(separator, str) and getattr(tokenizer, f"{separator}_token_id") is None:
        of_key = f"(sequence_separator_token={separator!r})"
        lacking.append(f"documents are joined without a boundary {of_key}; set it to eos, or the id of another token")
    if lacking:
        warnings.warn(f"the tokenizer of {cfg.model_name} lacks a token: {'; '.join(lacking)}.", stacklevel=2)
