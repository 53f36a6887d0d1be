"""Contexts of tokens: SAELens's activation store over documents, and the batches that a measurement reads."""

import copy
import logging
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self, cast

import sae_lens
import torch
from datasets import Dataset
from jaxtyping import Int
from sae_lens import ActivationsStore
from sae_lens.load_model import HookedProxyLM
from sae_lens.training.activations_store import _get_input_token_device
from sae_lens.util import get_special_token_ids
from transformer_lens.HookedRootModule import HookedRootModule
from typing_extensions import override

from sae_lens_abstopk.model.inference import autocast_pays
from sae_lens_abstopk.model.model_spec import ModelSpec
from sae_lens_abstopk.model.template_tokens import TEMPLATE_ERRORS, marked_conversation
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.text.documents import DAMAGED, Text, load_text, require_same_tokenizer, text_errors
from sae_lens_abstopk.text.text_spec import TextPart, TextSpec

# characters that a measurement reads of one document
LONGEST_DOCUMENT = 8192
# most logits in one pass: 1 GiB in float32, with several copies in memory
LOGITS_OF_A_PASS = 2**28
# most codes in one pass: 256 MiB in float32, with several copies in memory
CODES_OF_A_PASS = 2**26
# added to the token ids of a numbered document, times its number
STEP = 2**32


class TextStore(ActivationsStore):
    """SAELens's activation store over given documents."""

    dataset_path: str = ""
    """Name of the text in errors."""
    marks_template: bool = False
    """Whether tokens of the chat template are marked (:mod:`.template_tokens`)."""

    @classmethod
    def of_specs(
        cls, model: HookedRootModule, model_spec: ModelSpec, text: TextSpec, documents: Text, **options: Any
    ) -> Self:
        """
        Make a store over ``documents`` of ``text``; ``options`` are further arguments of ``ActivationsStore``.

        The defaults suit a store for tokens only. Token ids of another tokenizer are an error.
        """
        require_same_tokenizer(getattr(model, "tokenizer", None), text)
        of_tokens = {"d_in": 1, "n_batches_in_buffer": 1, "total_training_tokens": 1, "train_batch_size_tokens": 1}
        of_tokens |= {"normalize_activations": "none", "dtype": "float32", "device": torch.device("cpu")}
        options = of_tokens | options
        device: torch.device = options["device"]
        special = text.exclude_special_tokens
        ids = get_special_token_ids(cast(Any, model).tokenizer) if special is True else special
        with saelens_notes_off():
            store = cls(
                model=model,
                dataset=documents,
                streaming=text.streaming,
                hook_name=model_spec.hook_name,
                hook_head_index=model_spec.hook_head_index,
                context_size=text.context_size,
                store_batch_size_prompts=text.store_batch_size_prompts,
                prepend_bos=text.prepend_bos,
                model_kwargs=dict(model_spec.model_kwargs),
                autocast_lm=model_spec.autocast_lm and autocast_pays(_get_input_token_device(model)),
                seqpos_slice=text.seqpos_slice,
                exclude_special_tokens=None if ids is False else torch.tensor(ids, dtype=torch.long, device=device),
                disable_concat_sequences=text.disable_concat_sequences,
                sequence_separator_token=text.sequence_separator_token,
                use_chat_formatting=text.use_chat_formatting,
                **options,
            )
        store.dataset_path, store.marks_template = text.dataset_path, text.exclude_chat_template
        return store

    @override
    def get_batch_tokens(
        self, batch_size: int | None = None, raise_at_epoch_end: bool = False, move_to_model_device: bool = True
    ) -> torch.Tensor:
        tokens = super().get_batch_tokens(batch_size, raise_at_epoch_end, move_to_model_device=False)
        return tokens.to(_get_input_token_device(self.model), non_blocking=True) if move_to_model_device else tokens

    @override
    def _iterate_raw_dataset(self) -> Generator[Any, None, None]:
        with text_errors(self.dataset_path, DAMAGED):
            for row in super()._iterate_raw_dataset():
                if self.is_dataset_tokenized and len(row) < self.context_size:
                    raise ConfigError(
                        f"dataset_path={self.dataset_path!r} has a row of {len(row)} tokens (row "
                        f"{self.n_dataset_processed}), fewer than context_size={self.context_size}; lower context_size."
                    )
                if row or not self.use_chat_formatting:  # skip a conversation without turns, like empty text
                    yield row

    @override
    def _iterate_raw_dataset_tokens(self) -> Generator[torch.Tensor, None, None]:
        tokenizer: Any = getattr(self.model, "tokenizer", None)
        bos = None if tokenizer is None or self.use_chat_formatting else tokenizer.bos_token_id
        try:
            if self.marks_template:
                for conversation in self._iterate_raw_dataset():
                    yield marked_conversation(conversation, tokenizer)
                return
            for tokens in super()._iterate_raw_dataset_tokens():
                # SAELens removes the BOS only if the tokenizer says that it adds one, which few do since transformers 5
                yield tokens[1:] if bos is not None and len(tokens) and tokens[0] == bos else tokens
        except TEMPLATE_ERRORS as error:
            if isinstance(error, ConfigError) or not self.use_chat_formatting:
                raise
            raise ConfigError(
                f"a conversation in dataset_path={self.dataset_path!r} does not fit the chat template of the model "
                f"({error}); leave it out, or change its turns."
            ) from error

    @override
    def _iterate_tokenized_sequences(self) -> Generator[torch.Tensor, None, None]:
        # SAELens builds sequences on the store's device, and would wait for a GPU at every document: give it a copy of
        # the store on the CPU that reads documents through the original, which counts them
        on_host = copy.copy(self)
        on_host.device, on_host.iterable_sequences = torch.device("cpu"), iter(())
        on_host._iterate_raw_dataset = self._iterate_raw_dataset  # type: ignore[method-assign]
        yield from ActivationsStore._iterate_tokenized_sequences(on_host)


class NumberedTextStore(TextStore):
    """
    A store of tokens that carry the number of their document, for intervals that resample documents.

    Document n, counted from 1, adds n * ``STEP`` to the absolute value of its token ids, so that numbers stay with the
    tokens when documents are joined and cut into contexts; :func:`unnumbered` splits them again. Its first token and
    tokens between documents carry none, so that the joining compares them as ever.
    """

    @override
    def _iterate_raw_dataset_tokens(self) -> Generator[torch.Tensor, None, None]:
        for number, tokens in enumerate(super()._iterate_raw_dataset_tokens(), 1):
            numbered = tokens + torch.where(tokens < 0, -1, 1) * number * STEP
            numbered[:1] = tokens[:1]
            yield numbered


def unnumbered(
    tokens: Int[torch.Tensor, "batch context"],
) -> tuple[Int[torch.Tensor, "batch context"], Int[torch.Tensor, "batch context"]]:
    """Return the token ids, and the document of each token; in a row without numbers, 0."""
    numbers = tokens.abs() // STEP
    ids = tokens - tokens.sign() * numbers * STEP
    # numbers rise along a row: a token without one belongs to the next document, or at the end to the last
    after = numbers.masked_fill(numbers == 0, STEP).flip(1).cummin(1).values.flip(1)
    return ids, torch.where(after == STEP, numbers.cummax(1).values, after)


def token_batches(
    model: Any,
    model_spec: ModelSpec,
    text: TextSpec,
    n_tokens: int,
    *,
    part: TextPart,
    d_sae: int,
    with_logits: bool,
    store: type[TextStore] = TextStore,
) -> list[torch.Tensor]:
    """
    Return token ids [batch, context_size] from a part of a text: ``n_tokens``, or a little more.

    Only the first ``LONGEST_DOCUMENT`` characters of a document are read, so that one book does not dominate; if that
    is too little text, all of it. A batch has ``store_batch_size_prompts`` contexts, or fewer if their codes (``d_sae``
    wide) or, ``with_logits``, their logits need too much memory. Text that does not fill one batch is an error.
    """

    def read(documents: Text) -> list[torch.Tensor]:
        contexts, batches = store.of_specs(model, model_spec, text, documents), list[torch.Tensor]()
        with suppress(StopIteration):  # the text ends first
            while sum(batch.numel() for batch in batches) < n_tokens:
                batches.append(contexts.get_batch_tokens(raise_at_epoch_end=True))
        return batches

    documents = load_text(text, part)
    per_batch = text.store_batch_size_prompts * text.context_size
    batches: list[torch.Tensor] = []
    if not (text.is_dataset_tokenized or text.use_chat_formatting):
        as_read = documents.to_iterable_dataset() if isinstance(documents, Dataset) else documents
        short = as_read.map(lambda row: {"text": row["text"][:LONGEST_DOCUMENT]})
        batches = read(short)
    if len(batches) * per_batch < n_tokens:
        batches = read(documents)
    if not batches:
        which = "text" if part == "all" else f"{part.replace('_', '-')} text"
        lower = "" if part == "all" else f"held_out_every={text.held_out_every}, "
        raise ConfigError(
            f"the {which} of {text.dataset_path!r} does not fill one batch of {per_batch} tokens; give more text, or "
            f"lower {lower}store_batch_size_prompts={text.store_batch_size_prompts} or "
            f"context_size={text.context_size} of the run."
        )
    contexts = CODES_OF_A_PASS // (text.context_size * d_sae)
    tokenizer = getattr(model, "tokenizer", None)
    if with_logits and tokenizer is not None:
        contexts = min(contexts, LOGITS_OF_A_PASS // (text.context_size * len(tokenizer)))
    return [piece for batch in batches for piece in batch.split(max(1, contexts))]


def count_tokens(tokenizer: Any, model_spec: ModelSpec, text: TextSpec, *, at_most: int) -> int:
    """Count the tokens of one epoch of the training text, in whole batches, and stop at ``at_most`` or a few more."""
    # in place of the model, of which only the tokenizer and the device matter
    reads = HookedProxyLM(torch.nn.Linear(1, 1), tokenizer, hook_names=[])
    contexts, n = TextStore.of_specs(reads, model_spec, text, load_text(text, "train")), 0
    with suppress(StopIteration):
        while n < at_most:
            n += contexts.get_batch_tokens(raise_at_epoch_end=True).numel()
    return n


@contextmanager
def saelens_notes_off() -> Iterator[None]:
    """Silence SAELens's notes about untokenised text and about a model or data set that was passed in."""
    level = sae_lens.logger.level
    sae_lens.logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Dataset is not tokenized")
            warnings.filterwarnings("ignore", message="The training dataset contains fewer samples")
            yield
    finally:
        sae_lens.logger.setLevel(level)
