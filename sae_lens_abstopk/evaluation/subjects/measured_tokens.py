"""The tokens that a measurement reads: batches of a part of the text, as large as a pass over them may be."""

from typing import Any

import torch
from datasets import Dataset

from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.text.documents import Text, TextPart, load_text
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.source.lm_source import FilteredActivationsStore, saelens_notes_off

# characters of a document that a measurement reads
LONGEST_DOCUMENT = 8192
# of one pass that measures a loss: 1 GiB in float32, of which the model and the loss hold several
LOGITS_OF_A_PASS = 2**28
# of one pass, of the largest SAE: 256 MiB in float32, of which encoding and counting hold several
CODES_OF_A_PASS = 2**26


def token_batches(
    model: Any, cfg: TrainingConfig, n_tokens: int, *, part: TextPart, d_sae: int, with_logits: bool
) -> list[torch.Tensor]:
    """
    Token ids [batch, context_size] from a part of the text, ``n_tokens`` or a little over, for passes that measure.

    Of each document the first ``LONGEST_DOCUMENT`` characters are read, so that no book stands for a whole library; all of
    it where that is too little text. A batch has ``store_batch_size_prompts`` contexts, or as many as have
    ``CODES_OF_A_PASS`` codes of the largest SAE, ``d_sae`` wide, and ``LOGITS_OF_A_PASS`` logits if it is ``with_logits``;
    one at least.
    """
    text = load_text(cfg, part)
    per_batch = cfg.store_batch_size_prompts * cfg.context_size
    batches: list[torch.Tensor] = []
    if not (cfg.is_dataset_tokenized or cfg.use_chat_formatting):
        as_read = text.to_iterable_dataset() if isinstance(text, Dataset) else text
        batches = _batches_of(as_read.map(lambda row: {"text": row["text"][:LONGEST_DOCUMENT]}), model, cfg, n_tokens)
    if len(batches) * per_batch < n_tokens:
        batches = _batches_of(text, model, cfg, n_tokens)
    if not batches:
        which = "text" if part == "all" else f"{part.replace('_', '-')} text"
        lower = "" if part == "all" else f"held_out_every={cfg.held_out_every}, "
        raise ConfigError(
            f"the {which} of {cfg.dataset_path!r} does not fill one batch of {per_batch} tokens; give more text, or lower "
            f"{lower}store_batch_size_prompts={cfg.store_batch_size_prompts} or context_size={cfg.context_size} of the run."
        )
    contexts = CODES_OF_A_PASS // (cfg.context_size * d_sae)
    tokenizer = getattr(model, "tokenizer", None)
    if with_logits and tokenizer is not None:
        contexts = min(contexts, LOGITS_OF_A_PASS // (cfg.context_size * len(tokenizer)))
    return [piece for batch in batches for piece in batch.split(max(1, contexts))]


def _batches_of(text: Text, model: Any, cfg: TrainingConfig, n_tokens: int) -> list[torch.Tensor]:
    """Whole batches of the language model until there are ``n_tokens``, or as many as the text has."""
    with saelens_notes_off():
        store = FilteredActivationsStore.from_config(model, cfg, override_dataset=text)
    batches: list[torch.Tensor] = []
    try:
        while sum(batch.numel() for batch in batches) < n_tokens:
            batches.append(store.get_batch_tokens(raise_at_epoch_end=True))
    except StopIteration:
        pass  # all there is
    return batches
