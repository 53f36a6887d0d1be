"""SAELens's activation store with massive tokens left out, text read ahead, a cache on disk, and a place that a run resumes at."""

import copy
import logging
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self, TypeVar, cast

import sae_lens
import torch
from datasets import Dataset, IterableDataset
from jinja2 import TemplateError
from sae_lens import ActivationsStore
from sae_lens.training.activations_store import _get_input_token_device
from sae_lens.training.prefetch import PrefetchingIterator
from transformer_lens.HookedRootModule import HookedRootModule
from typing_extensions import override

from sae_lens_abstopk.model.autocast import autocast_pays, casts_shared
from sae_lens_abstopk.system.errors import ConfigError, TrainingStopped
from sae_lens_abstopk.system.ranks import averaged, n_ranks, this_rank
from sae_lens_abstopk.text.documents import require_same_tokenizer, text_errors
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.source.activation_cache import ActivationCache
from sae_lens_abstopk.training.source.mixing_buffer import MixingBuffer

# batches of the language model whose norms give the median that `max_norm_multiple` multiplies
NORM_CALIBRATION_BATCHES = 4
# contexts that are tokenised ahead of their use
READ_AHEAD = 256
# batches that a language model in autocast runs through after its weights have been cast; all are held at once
BATCHES_PER_CAST = 8

T = TypeVar("T")
RawBatch = tuple[torch.Tensor, torch.Tensor | None]
"""Activations [n_tokens, d_in] of a batch of the language model, and the token ids where these are needed."""


class NonFiniteActivationsError(TrainingStopped):
    """The language model produced NaN or infinite activations."""


class StorePosition(NamedTuple):
    """Where a store is in its text and its buffer: what it takes to go on from there with the same batches."""

    n_blocks: int
    """Batches of the language model that went into the buffer."""
    max_norm: float | None
    served: torch.Tensor
    """Rows [n, d_in] that are to be served next, in their order."""
    waiting: torch.Tensor
    """Rows [m, d_in] that wait in the buffer to be mixed with what comes."""
    generator: torch.Tensor
    """State of what the buffer is shuffled by."""


class FilteredActivationsStore(ActivationsStore):
    """
    Drops tokens whose activation norm exceeds ``max_norm``, and stops at NaN or infinity.

    Some models put a few tokens at a hundred times the usual norm (a "massive activation", often on the first
    position); those few then hold most of the variance, and an SAE spends its latents on them.

    As a data loader it reads ahead: text is tokenised in a thread, on the host, and the language model is handed its
    next batch before the last one is filtered, so that a GPU does not wait for the host. Batches come from a buffer that
    is allocated once, in SAELens's order.
    """

    max_norm: float | None = None
    n_llm_batches: int = 0
    n_blocks: int = 0
    """Blocks that went into the buffer."""
    cache: ActivationCache | None = None
    generator: torch.Generator | None = None
    """What the buffer is shuffled by; torch's own where there is none."""
    dataset_path: str = ""
    """What errors call the text."""
    _buffer: MixingBuffer | None = None
    _blocks: Generator[torch.Tensor, None, None] | None = None
    _reads_ahead: bool = False

    @classmethod
    @override
    def from_config(cls, model: HookedRootModule, cfg: Any, override_dataset: Any = None) -> Self:
        require_same_tokenizer(getattr(model, "tokenizer", None), cfg)
        store = cast(Self, super().from_config(model, cfg, override_dataset))
        store.autocast_lm = cfg.autocast_lm and autocast_pays(_get_input_token_device(model))
        store.dataset_path = cfg.dataset_path
        cached = store.cached_activation_dataset
        if cached is not None and cfg.exclude_special_tokens and "token_ids" not in cached.column_names:
            raise ConfigError(
                f"cached_activations_path={cfg.cached_activations_path!r} holds no token_ids, which exclude_special_tokens goes by; "
                "cache the activations again with this version of SAELens, or set exclude_special_tokens to false."
            )
        return store

    @classmethod
    def for_training(cls, model: HookedRootModule, cfg: TrainingConfig, dataset: Dataset | IterableDataset) -> Self:
        """The store of a run; with ``max_norm_multiple`` set, the first batches of text are read for their median."""
        store = cls.from_config(model, cfg, override_dataset=dataset)
        # of its own, so that a thread which reads ahead and whatever else draws numbers do not depend on each other
        store.generator = torch.Generator().manual_seed(cfg.seed + this_rank())
        store.train_batch_size_tokens //= n_ranks()
        warn_of_missing_tokens(getattr(model, "tokenizer", None), cfg)
        if cfg.activation_cache is not None:
            store.cache = ActivationCache.of_run(cfg)
            store.cache.require_room(cfg)
        if store.cache is not None and not store.cache.is_new:
            store.max_norm = store.cache.manifest.max_norm
            return store
        if cfg.max_norm_multiple is not None:
            try:
                store.max_norm = cfg.max_norm_multiple * store.median_norm()
            except StopIteration:
                raise store._too_little_text() from None
        if store.cache is not None:
            store.cache.begin(max_norm=store.max_norm, skipped_batches=store.n_llm_batches)
            store.max_norm = store.cache.manifest.max_norm
        return store

    def median_norm(self) -> float:
        """Median norm of the activations of the next ``NORM_CALIBRATION_BATCHES`` LM batches; over several ranks, the mean of theirs."""
        norms = [self.get_filtered_llm_batch().float().norm(dim=-1) for _ in range(NORM_CALIBRATION_BATCHES)]
        return averaged(torch.cat(norms).median()).item()

    @override
    def get_filtered_llm_batch(self, raise_on_epoch_end: bool = False) -> torch.Tensor:
        return self._filtered(self.get_raw_llm_batch(raise_on_epoch_end=raise_on_epoch_end))

    def _filtered(self, batch: RawBatch) -> torch.Tensor:
        activations, token_ids = batch
        if token_ids is not None and self.exclude_special_tokens is not None:
            activations = activations[~torch.isin(token_ids, self.exclude_special_tokens)]
        self.n_llm_batches += 1
        norms = activations.float().norm(dim=-1)
        # NaN and infinity both make the sum of the norms non-finite: one number to wait for on a GPU
        if not norms.sum().isfinite():
            bad = int((~norms.isfinite()).sum())
            raise NonFiniteActivationsError(
                f"{bad} of {len(norms)} activations of {self.hook_name} are NaN or infinite in language-model batch "
                f"{self.n_llm_batches}; run the model in a wider type (autocast_lm=false, or a float32 or bfloat16 model) or leave "
                "that text out."
            )
        return activations if self.max_norm is None else activations[norms <= self.max_norm]

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
        # the buffer holds what it is given, which may be half precision: too little to scale, or to whiten, in
        return map(_widened, self._buffer)

    def close(self) -> None:
        """Stop reading ahead, and store what a cache is still to be given; read on, the text starts again."""
        for source in (self._blocks, self.iterable_sequences):
            if isinstance(source, Generator):
                source.close()
        self._dataloader = self._buffer = self._blocks = None
        self._reads_ahead = False
        self.iterable_sequences = self._iterate_tokenized_sequences()

    def position(self) -> StorePosition:
        """Where the store is, between two batches."""
        assert self.generator is not None
        served, waiting = (torch.empty(0, 0),) * 2 if self._buffer is None else self._buffer.rows()
        return StorePosition(self.n_blocks, self.max_norm, served, waiting, self.generator.get_state())

    def go_to(self, position: StorePosition, on_progress: Callable[[int, int], None] = lambda *_: None) -> None:
        """
        Bring a store of :meth:`for_training`, not read from yet, to where another one was.

        The text is read and tokenised up to there; the language model does not run.
        """
        assert self.generator is not None
        if self.cache is None:
            self._pass_over(position.n_blocks, on_progress)
        self.n_blocks, self.max_norm = position.n_blocks, position.max_norm
        self._dataloader = self.get_data_loader()
        assert self._buffer is not None
        self._buffer.refill(position.served.to(self.device), position.waiting.to(self.device))
        self.generator.set_state(position.generator)

    def _pass_over(self, n_batches: int, on_progress: Callable[[int, int], None] = lambda *_: None) -> None:
        for i in range(n_batches):
            self._into_next_epoch(self._skip_batch)
            on_progress(i + 1, n_batches)
        self.n_llm_batches += n_batches

    @override
    def get_batch_tokens(
        self, batch_size: int | None = None, raise_at_epoch_end: bool = False, move_to_model_device: bool = True
    ) -> torch.Tensor:
        tokens = super().get_batch_tokens(batch_size, raise_at_epoch_end, move_to_model_device=False)
        if not move_to_model_device:
            return tokens
        return tokens.to(_get_input_token_device(self.model), non_blocking=True)

    def _skip_batch(self, raise_on_epoch_end: bool = False) -> None:
        if self.cached_activation_dataset is None:
            self.get_batch_tokens(raise_at_epoch_end=raise_on_epoch_end, move_to_model_device=False)
        else:
            self.get_raw_llm_batch(raise_on_epoch_end=raise_on_epoch_end)

    def _counted_blocks(self) -> Generator[torch.Tensor, None, None]:
        if self.cache is None:
            blocks = self._iterate_filtered_activations()
        else:
            blocks = self.cache.blocks(self._blocks_from, start=self.n_blocks)
        for block in blocks:
            self.n_blocks += 1
            yield block.to(self.device)  # a cache gives bfloat16 in the memory of the host

    @override
    def _iterate_filtered_activations(self) -> Generator[torch.Tensor, None, None]:
        if self.autocast_lm:
            while True:
                with casts_shared():
                    batches = [self._next_raw_batch() for _ in range(BATCHES_PER_CAST)]
                while batches:  # let go of one by one, so that few are left when the next eight are made
                    yield self._filtered(batches.pop(0))
        waiting = self._next_raw_batch()
        while True:
            launched = self._next_raw_batch()
            yield self._filtered(waiting)
            waiting = launched

    def _next_raw_batch(self) -> RawBatch:
        return self._into_next_epoch(self.get_raw_llm_batch)

    def _into_next_epoch(self, read: Callable[[bool], T]) -> T:
        """What ``read`` gives; at the end of the text, which it raises, from the start of the text again."""
        try:
            return read(True)
        except StopIteration:
            warnings.warn("All samples in the training dataset have been exhausted, beginning new epoch.", stacklevel=2)
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
        """Filtered blocks after those of a cache, whose text is passed over."""
        assert self.cache is not None
        for _ in range(self.cache.manifest.skipped_batches - self.n_llm_batches):
            self.get_batch_tokens()
        self._pass_over(n_batches)
        return self._iterate_filtered_activations()

    @override
    def _iterate_raw_dataset(self) -> Generator[Any, None, None]:
        with text_errors(self.dataset_path):
            for row in super()._iterate_raw_dataset():
                if self.is_dataset_tokenized and len(row) < self.context_size:
                    raise ConfigError(
                        f"dataset_path={self.dataset_path!r} has a row of {len(row)} tokens (row {self.n_dataset_processed}), fewer than "
                        f"context_size={self.context_size}; lower context_size, or pack the documents into rows of that length."
                    )
                if row or not self.use_chat_formatting:  # a conversation without turns is passed over, as empty text is
                    yield row

    @override
    def _iterate_raw_dataset_tokens(self) -> Generator[torch.Tensor, None, None]:
        tokenizer: Any = getattr(self.model, "tokenizer", None)
        bos = None if tokenizer is None or self.use_chat_formatting else tokenizer.bos_token_id
        try:
            for tokens in super()._iterate_raw_dataset_tokens():
                # SAELens takes off the BOS of a tokenizer that says it adds one, which few do since transformers 5
                yield tokens[1:] if bos is not None and len(tokens) and tokens[0] == bos else tokens
        except (TemplateError, TypeError, ValueError) as error:
            if isinstance(error, ConfigError) or not self.use_chat_formatting:
                raise
            raise ConfigError(
                f"a conversation in dataset_path={self.dataset_path!r} does not fit the chat template of the model ({error}); "
                "leave such conversations out, or change their turns."
            ) from error

    @override
    def _iterate_tokenized_sequences(self) -> Generator[torch.Tensor, None, None]:
        # SAELens puts sequences together on the device of the store, and would wait for a GPU at every document: it is given
        # a store of another device, whose documents are read, and counted, by this one
        on_host = copy.copy(self)
        on_host.device, on_host.iterable_sequences = torch.device("cpu"), iter(())
        on_host._iterate_raw_dataset = self._iterate_raw_dataset  # type: ignore[method-assign]
        sequences = ActivationsStore._iterate_tokenized_sequences(on_host)
        if self._reads_ahead:
            yield from self._read_ahead(sequences)
        else:
            yield from sequences

    def _read_ahead(self, sequences: Iterator[torch.Tensor]) -> Generator[torch.Tensor, None, None]:
        """Sequences tokenised in a thread."""
        ahead = PrefetchingIterator(sequences, READ_AHEAD)
        try:
            yield from ahead
        finally:
            ahead.close()


def warn_of_missing_tokens(tokenizer: Any, cfg: TrainingConfig) -> None:
    """Warn where ``prepend_bos`` or ``sequence_separator_token`` names a token that the tokenizer lacks: SAELens adds none then."""
    if tokenizer is None or cfg.is_dataset_tokenized or cfg.use_cached_activations:
        return
    no_bos = cfg.prepend_bos and tokenizer.bos_token_id is None
    separator = None if cfg.disable_concat_sequences else cfg.sequence_separator_token
    no_separator = isinstance(separator, str) and getattr(tokenizer, f"{separator}_token_id") is None
    effects = ["contexts begin without a BOS (prepend_bos=true)"] if no_bos else []
    if no_separator:
        effects.append(f"documents are joined without a boundary (sequence_separator_token={separator!r})")
    if effects:
        remedies = (["prepend_bos=false"] if no_bos else []) + (
            ["sequence_separator_token=eos, or the id of another token"] if no_separator else []
        )
        warnings.warn(
            f"the tokenizer of {cfg.model_name} lacks what the config names, so {' and '.join(effects)}; set {' and '.join(remedies)}.",
            stacklevel=2,
        )


@contextmanager
def saelens_notes_off() -> Iterator[None]:
    """SAELens warns that a text is not tokenised and that model and data were passed in, which is how it is meant here."""
    level = sae_lens.logger.level
    sae_lens.logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Dataset is not tokenized")
            warnings.filterwarnings("ignore", message="The training dataset contains fewer samples")
            yield
    finally:
        sae_lens.logger.setLevel(level)


def _widened(batch: torch.Tensor) -> torch.Tensor:
    return batch.float() if batch.dtype.itemsize < 4 else batch
