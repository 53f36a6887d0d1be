"""Batches of tokens that a measurement reads from a text."""

from typing import Any

import torch
from datasets import Dataset

from sae_lens_abstopk.model.model_spec import ModelSpec
from sae_lens_abstopk.model.text_store import TextStore
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.text.documents import Text, load_text
from sae_lens_abstopk.text.text_spec import TextPart, TextSpec

# characters that a measurement reads of one document
LONGEST_DOCUMENT = 8192
# most logits in one pass: 1 GiB in float32, with several copies in memory
LOGITS_OF_A_PASS = 2**28
# most codes in one pass: 256 MiB in float32, with several copies in memory
CODES_OF_A_PASS = 2**26


def token_batches(
    model: Any,
    model_spec: ModelSpec,
    text: TextSpec,
    n_tokens: int,
    *,
    part: TextPart,
    d_sae: int,
    with_logits: bool,
) -> list[torch.Tensor]:
    """
    Return token ids [batch, context_size] from a part of a text: ``n_tokens``, or a little more.

    Only the first ``LONGEST_DOCUMENT`` characters of a document are read, so that one book does not dominate; if that
    is too little text, all of it. A batch has ``store_batch_size_prompts`` contexts, or fewer if their codes (``d_sae``
    wide) or, ``with_logits``, their logits need too much memory.

    Raises:
        ConfigError: the text does not fill one batch.
    """
    documents = load_text(text, part)
    per_batch = text.store_batch_size_prompts * text.context_size
    batches: list[torch.Tensor] = []
    if not (text.is_dataset_tokenized or text.use_chat_formatting):
        as_read = documents.to_iterable_dataset() if isinstance(documents, Dataset) else documents
        short = as_read.map(lambda row: {"text": row["text"][:LONGEST_DOCUMENT]})
        batches = _batches_of(short, model, model_spec, text, n_tokens)
    if len(batches) * per_batch < n_tokens:
        batches = _batches_of(documents, model, model_spec, text, n_tokens)
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


def _batches_of(documents: Text, model: Any, spec: ModelSpec, text: TextSpec, n_tokens: int) -> list[torch.Tensor]:
    """Return whole LM batches with ``n_tokens`` in all, or as many as the text has."""
    store = TextStore.of_specs(model, spec, text, documents)
    batches: list[torch.Tensor] = []
    try:
        while sum(batch.numel() for batch in batches) < n_tokens:
            batches.append(store.get_batch_tokens(raise_at_epoch_end=True))
    except StopIteration:
        pass
    return batches
