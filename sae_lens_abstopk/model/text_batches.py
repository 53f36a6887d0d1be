"""Run texts through a language model in batches of similar length, and mark the tokens that SAEs read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import torch
from sae_lens import SAE

from sae_lens_abstopk.model.check_hook import most_positions
from sae_lens_abstopk.model.length_batches import length_batches
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.token_filter import TokenFilter, TokenSelection, require_finite, require_tokens
from sae_lens_abstopk.system.errors import ConfigError

# texts tokenised and sorted by length together
WINDOW = 2048
# tokens in one pass of the model, padding included
BATCH_TOKENS = 2048
# longest text in tokens, if the model has as many positions; longer texts are cut
MAX_LENGTH = 512

Marker = tuple[int, int] | None


@dataclass(frozen=True)
class ReadingRules:
    """Rules for reading texts: whether a BOS goes first, and the tokens that the SAEs were trained on."""

    prepend_bos: bool
    """Whether texts start with BOS, which is only context and never read."""
    token_filter: TokenFilter
    """The token filter; its positions count from the start of the text, BOS included."""

    @classmethod
    def of_saes(cls, saes: Mapping[str, SAE[Any]], tokenizer: Any) -> Self:
        """
        Return the rules in the metadata of all ``saes``; a :class:`ConfigError` if they disagree.

        Norm limits are estimates and differ between seeds: the first one applies.
        """
        selection = shared_selection(saes)
        filters = [TokenFilter.of_sae(sae, tokenizer) for sae in saes.values()]
        limit = next((each.max_norm for each in filters if each.max_norm is not None), None)
        return cls(bool(selection.prepend_bos), replace(filters[0], max_norm=limit))

    def __str__(self) -> str:
        return f"{'a BOS in front' if self.prepend_bos else 'no BOS'}, {self.token_filter}"


def shared_selection(saes: Mapping[str, SAE[Any]]) -> TokenSelection:
    """Return the selection of tokens that all ``saes`` were trained on; a :class:`ConfigError` if they disagree."""
    found = {name: TokenSelection.of_sae(sae) for name, sae in saes.items()}
    if len(set(found.values())) != 1:
        selections = "; ".join(
            f"{name}: {', '.join(f'{key}={value}' for key, value in selection._asdict().items())}"
            for name, selection in found.items()
        )
        raise ConfigError(
            f"only SAEs trained on the same selection of tokens can share a pass ({selections or 'no SAE was given'}); "
            "give those of one selection at a time."
        )
    return next(iter(found.values()))


class TextBatch(NamedTuple):
    """Activations of b texts, padded on the right to t tokens."""

    rows: torch.Tensor
    """Indices of the texts, int64 [b]."""
    activations: torch.Tensor
    """Activations [b, t, d_in]."""
    real: torch.Tensor
    """Boolean [b, t]: tokens of the text, without padding and BOS."""
    kept: torch.Tensor
    """Boolean [b, t]: tokens of the text that pass the token filter."""
    marked: torch.Tensor
    """Position of the marked token, int64 [b]; -1 without a marker, or if it covers no token or is cut off."""
    truncated: int
    """Number of texts that were cut."""


class _Tokens(NamedTuple):
    row: int
    ids: list[int]
    marked: int
    truncated: bool


@torch.no_grad()
def text_batches(
    passes: ModelPasses,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    rules: ReadingRules,
    markers: Sequence[Marker] | None = None,
) -> Iterator[TextBatch]:
    """
    Yield activations of ``texts`` in batches of at most ``BATCH_TOKENS`` tokens, padding included, or one text.

    Models are causal, so padding on the right changes nothing before it. ``markers`` are (first, end) characters of a
    word in each text. A text without tokens is an error.
    """
    bos = [tokenizer.bos_token_id] if rules.prepend_bos and tokenizer.bos_token_id is not None else []
    max_length = min(MAX_LENGTH, most_positions(passes.model) or MAX_LENGTH)
    for start in range(0, len(texts), WINDOW):
        window = slice(start, start + WINDOW)
        spans = [None] * len(texts[window]) if markers is None else markers[window]
        tokenised = list(_tokenise(tokenizer, start, texts[window], spans, bos=bos, max_length=max_length))
        for taken in length_batches(tokenised, lambda tokens: len(tokens.ids), BATCH_TOKENS):
            yield _run(passes, taken, rules, n_bos=len(bos))


def _run(passes: ModelPasses, taken: list[_Tokens], rules: ReadingRules, *, n_bos: int) -> TextBatch:
    device = next(passes.model.parameters()).device
    width = len(taken[-1].ids)
    # any token can be padding: no token that is read attends to it
    tokens = torch.tensor([text.ids + text.ids[:1] * (width - len(text.ids)) for text in taken], device=device)
    activations = passes.activations(tokens)
    lengths = torch.tensor([len(text.ids) for text in taken], device=device)
    position = torch.arange(width, device=device)
    real = (position < lengths[:, None]) & (position >= n_bos)
    # a slice from the end counts from the end of the text, not of the padding
    in_slice = torch.zeros_like(real)
    for row, length in zip(in_slice, lengths.tolist(), strict=True):
        row[:length][slice(*rules.token_filter.seqpos_slice)] = True
    elsewhere = replace(rules.token_filter, seqpos_slice=(None,))
    kept = real & in_slice & elsewhere.keep(tokens, activations).to(device)
    require_finite(activations[kept.to(activations.device)], passes.hook_name)
    return TextBatch(
        rows=torch.tensor([text.row for text in taken]),
        activations=activations,
        real=real.to(activations.device),
        kept=kept.to(activations.device),
        marked=torch.tensor([text.marked for text in taken], device=activations.device),
        truncated=sum(text.truncated for text in taken),
    )


def _tokenise(
    tokenizer: Any, start: int, texts: Sequence[str], spans: Sequence[Marker], *, bos: list[int], max_length: int
) -> Iterator[_Tokens]:
    with_offsets = any(span is not None for span in spans)
    # without special tokens: only some tokenizers add a BOS
    encoded = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=with_offsets, padding=False)
    room = max_length - len(bos)
    for i, (text, ids, span) in enumerate(zip(texts, encoded["input_ids"], spans, strict=True)):
        require_tokens(text, ids)
        offsets = encoded["offset_mapping"][i] if span else []
        covered = [place for place, (first, end) in enumerate(offsets) if span and first < span[1] and end > span[0]]
        marked = covered[-1] + len(bos) if covered and covered[-1] < room else -1
        yield _Tokens(start + i, bos + ids[:room], marked, len(ids) > room)
