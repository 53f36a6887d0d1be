"""Tokens of answers, with the turns before each in front of it."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from sae_lens_abstopk.model.template_tokens import TEMPLATE_ERRORS
from sae_lens_abstopk.model.token_filter import require_tokens
from sae_lens_abstopk.system.errors import as_config_error

Turns = tuple[tuple[str, str], ...]
"""Roles and contents of the turns of a conversation."""
# answers tokenised at a time
TOKENISED = 2048


class Answer(NamedTuple):
    """A text, and the turns before it; none for a text that stands by itself."""

    before: Turns
    text: str


class AnswerTokens(NamedTuple):
    """The tokens of one answer; arrays, since lists of Python numbers take nine times the memory."""

    row: int
    """Number of the answer."""
    before: Int[np.ndarray, " p"]
    """Tokens that are only context."""
    own: Int[np.ndarray, " n"]
    """Tokens of the answer."""

    @property
    def n(self) -> int:
        """Number of tokens, the context included."""
        return len(self.before) + len(self.own)


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


def tokenised(tokenizer: Any, answers: Sequence[Answer], max_tokens: int) -> tuple[list[AnswerTokens], int]:
    """
    Return the tokens of each answer, and how many answers were cut.

    The context loses its first tokens, though half of ``max_tokens`` remain; then the answer loses its last.

    Raises:
        ConfigError: an answer has no tokens.
    """
    bos = tokenizer.bos_token_id
    bos = [bos] if bos is not None and tokenizer("a").input_ids[:1] == [bos] else []
    found, n_cut = list[AnswerTokens](), 0
    written: dict[Turns, Int[np.ndarray, " p"]] = {}  # one array for all answers of a prompt
    for start in range(0, len(answers), TOKENISED):
        part = answers[start : start + TOKENISED]
        new = list({each.before for each in part} - written.keys())
        for turns, ids in zip(new, _ids(tokenizer, [context_text(tokenizer, each) for each in new]), strict=True):
            # a template writes its own BOS
            written[turns] = np.array(ids if ids[: len(bos)] == bos else bos + ids, dtype=np.int32)
        texts = _ids(tokenizer, [each.text for each in part])
        for row, (answer, ids) in enumerate(zip(part, texts, strict=True), start):
            require_tokens(answer.text, ids)
            before, most = written[answer.before], max(max_tokens // 2, max_tokens - len(ids))
            before = before[-most:] if len(before) > most else before
            own = np.array(ids[: max_tokens - len(before)], dtype=np.int32)
            n_cut += len(own) < len(ids)
            found.append(AnswerTokens(row, before, own))
    return found, n_cut


def padded(rows: Sequence[Int[np.ndarray, " n"]]) -> Int[np.ndarray, "b t"]:
    """Return token ids padded on the right; any token can be padding, as no token that is read attends to it."""
    made = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for into, row in zip(made, rows, strict=True):
        into[: len(row)], into[len(row) :] = row, row[0]
    return made


def _ids(tokenizer: Any, texts: list[str]) -> Iterator[list[int]]:
    return iter(tokenizer(texts, add_special_tokens=False, padding=False).input_ids) if texts else iter(())
