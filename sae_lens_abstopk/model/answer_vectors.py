"""Vectors of answers: one activation each, with the turns before the answer in front of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sae_lens_abstopk.model.inference import casts_shared
from sae_lens_abstopk.model.model_passes import ModelPasses
from sae_lens_abstopk.model.template_tokens import TEMPLATE_ERRORS
from sae_lens_abstopk.model.token_filter import require_finite, require_tokens
from sae_lens_abstopk.system.errors import as_config_error

Reading = Literal["mean", "last"]
Turns = tuple[tuple[str, str], ...]
"""Roles and contents of the turns of a conversation."""
# tokens in one pass of the model, padding included
BATCH_TOKENS = 4096
# texts that the norm limit is estimated on
SAMPLE = 64


class Answer(NamedTuple):
    """A text, and the turns before it; none for a text that stands by itself."""

    before: Turns
    text: str


class _Tokens(NamedTuple):
    row: int
    ids: list[int]
    n_before: int
    """Number of tokens that are only context."""


def context_text(tokenizer: Any, turns: Turns) -> str:
    """
    Return the turns before an answer as the tokenizer's chat template writes them, or without one as plain text.

    Raises:
        ConfigError: the template takes no such turns.
    """
    if not turns or not getattr(tokenizer, "chat_template", None):
        return "".join(f"{content}\n\n" for _, content in turns)
    messages = [{"role": role, "content": content} for role, content in turns]
    refused = f"the model's chat template does not take turns of {', '.join(role for role, _ in turns)}"
    remedy = "leave such pairs out, change their turns, or take another model"
    with as_config_error(TEMPLATE_ERRORS, lambda error: f"{refused} ({error}); {remedy}."):
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


@dataclass
class AnswerReader:
    """
    Reads one activation of each answer: the mean over its tokens, or the last.

    The turns before it are context, written by the tokenizer's chat template if it has one, else as plain text. A mean
    leaves out massive activations (the first token of a text, or norms over ``max_norm``).

    Args:
        max_tokens: Most tokens of an answer with its context. The context loses its first tokens, though half of
            ``max_tokens`` remain; then the answer loses its last.
        max_norm: Largest norm of an activation that a mean takes.
    """

    passes: ModelPasses
    tokenizer: Any
    reading: Reading = "mean"
    max_tokens: int = 1024
    max_norm: float | None = None
    n_cut: int = field(default=0, init=False)
    """Texts that were cut so far."""

    def __post_init__(self) -> None:
        ids = self.tokenizer("a").input_ids
        bos = self.tokenizer.bos_token_id
        self._bos = [bos] if bos is not None and ids[:1] == [bos] else []

    @torch.no_grad()
    @casts_shared()
    def __call__(self, answers: Sequence[Answer]) -> Float[Tensor, "n d_in"]:
        """
        Return a row for each answer, as float32 on the CPU.

        Raises:
            ConfigError: an answer has no tokens, or an activation is NaN or infinite.
        """
        found: Tensor | None = None
        for batch in self._batches(answers):
            rows = self._read(batch)
            found = torch.empty(len(answers), rows.shape[1]) if found is None else found
            found[[each.row for each in batch]] = rows
        assert found is not None
        return found

    @torch.no_grad()
    @casts_shared()
    def limit_norms(self, answers: Sequence[Answer], multiple: float) -> None:
        """Set ``max_norm`` to a multiple of the median norm of the tokens of the first answers."""
        norms: list[Tensor] = []
        for batch in self._batches(answers[:SAMPLE]):
            activations, read = self._pass(batch)
            norms.append(activations[read].float().norm(dim=-1).cpu())
        self.max_norm = multiple * torch.cat(norms).median().item()

    def _batches(self, answers: Sequence[Answer]) -> Iterator[list[_Tokens]]:
        tokenised = sorted(self._tokenise(answers), key=lambda each: len(each.ids))
        while tokenised:
            size = max(1, BATCH_TOKENS // len(tokenised[-1].ids))  # the last text is the longest
            yield tokenised[-size:]
            tokenised = tokenised[:-size]

    def _tokenise(self, answers: Sequence[Answer]) -> Iterator[_Tokens]:
        before = self._ids([context_text(self.tokenizer, each.before) for each in answers])
        texts = self._ids([each.text for each in answers])
        for row, (context, ids) in enumerate(zip(before, texts, strict=True)):
            require_tokens(answers[row].text, ids)
            # a template writes its own BOS
            context = context if context[: len(self._bos)] == self._bos else self._bos + context
            context = context[-max(self.max_tokens // 2, self.max_tokens - len(ids)) :]
            kept = ids[: self.max_tokens - len(context)]
            self.n_cut += len(kept) < len(ids)
            yield _Tokens(row, context + kept, len(context))

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False, padding=False).input_ids

    def _pass(self, taken: list[_Tokens]) -> tuple[Float[Tensor, "b t d_in"], Tensor]:
        """Return the activations of texts padded on the right, and which of them are read."""
        width, device = len(taken[-1].ids), next(self.passes.model.parameters()).device
        # any token can be padding: no token that is read attends to it
        tokens = torch.tensor([each.ids + each.ids[:1] * (width - len(each.ids)) for each in taken], device=device)
        activations = self.passes.activations(tokens)
        place = torch.arange(width, device=activations.device)
        starts = torch.tensor([each.n_before for each in taken], device=activations.device)
        ends = torch.tensor([len(each.ids) for each in taken], device=activations.device)
        if self.reading == "last":
            return activations, place == ends[:, None] - 1
        # the first token of a text is massive whatever it is
        starts = torch.where(ends > 1, starts.clamp(min=1), starts)
        return activations, (place >= starts[:, None]) & (place < ends[:, None])

    def _read(self, taken: list[_Tokens]) -> Float[Tensor, "b d_in"]:
        activations, read = self._pass(taken)
        require_finite(activations[read], self.passes.hook_name)
        activations = activations.float()
        if self.max_norm is not None:
            small = read & (activations.norm(dim=-1) <= self.max_norm)
            read = torch.where(small.any(1, keepdim=True), small, read)
        # not 0 * x: a massive activation would lose precision
        return (torch.where(read[..., None], activations, 0).sum(1) / read.sum(1, keepdim=True)).cpu()
