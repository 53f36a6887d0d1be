"""
Tell the tokens of a conversation's turns from those that the chat template adds.

A token id of the template is stored as its complement ``~id``, which is negative, so that the mark stays with the token
when conversations are joined and cut into contexts.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jinja2 import TemplateError

from sae_lens_abstopk.system.errors import ConfigError

TEMPLATE_ERRORS = (TemplateError, TypeError, ValueError)
"""Errors of a chat template that cannot write some turns."""


def marked_conversation(conversation: str | Sequence[dict[str, Any]], tokenizer: Any) -> torch.Tensor:
    """
    Return the token ids [n] of turns, or of one user turn, in the chat template; ids of the template are complements.

    A token that has characters of both belongs to the turn.

    Raises:
        ConfigError: the template changes the text of a turn, so that it cannot be found.
    """
    turns = [{"role": "user", "content": conversation}] if isinstance(conversation, str) else conversation
    text: str = tokenizer.apply_chat_template(turns, tokenize=False)
    read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    of_turn, end = torch.zeros(len(text) + 1, dtype=torch.bool), 0
    for turn, before in zip(turns, _before_turns(turns, tokenizer), strict=True):
        content = str(turn["content"])
        # a short turn may be part of the template's own text
        after = end + len(before) if text.startswith(before, end) else end
        # the template may have trimmed it
        places = [place for each in (content, content.strip()) if (place := text.find(each, after)) >= 0]
        if not places:
            raise ConfigError(
                f"the chat template changes the turn {content!r:.80}, so its own tokens cannot be told apart; set "
                "exclude_chat_template to false."
            )
        start = min(places)
        end = start + len(content if text.startswith(content, start) else content.strip())
        of_turn[start:end] = True
    ids = torch.tensor(read["input_ids"], dtype=torch.long)
    kept = torch.tensor([bool(of_turn[first:last].any()) for first, last in read["offset_mapping"]], dtype=torch.bool)
    return torch.where(kept, ids, ~ids)


def _before_turns(turns: Sequence[dict[str, Any]], tokenizer: Any) -> list[str]:
    """Return the template's own text before each turn; empty where it depends on what the turns say."""
    marks = [f"<turn {number} of {len(turns)}>" for number in range(len(turns))]
    marked = [turn | {"content": mark} for turn, mark in zip(turns, marks, strict=True)]
    rest: str = tokenizer.apply_chat_template(marked, tokenize=False)
    found = []
    for mark in marks:
        before, is_there, after = rest.partition(mark)
        found.append(before if is_there else "")
        rest = after if is_there else rest
    return found


def unmarked(tokens: torch.Tensor) -> torch.Tensor:
    """Return the token ids without marks."""
    return torch.where(tokens < 0, ~tokens, tokens)
