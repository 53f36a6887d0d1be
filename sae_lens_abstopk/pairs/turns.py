"""The prompt and the two responses of a pair, from texts, conversations and transcripts."""

import ast
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from sae_lens_abstopk.pairs.pair_set import Turn
from sae_lens_abstopk.system.errors import ConfigError

Turns = tuple[Turn, ...]
# roles of turns to which the other turns respond
ASKING = ("user", "human", "system", "developer", "tool", "function")
# ShareGPT's names of roles
SHAREGPT = {"human": "user", "gpt": "assistant", "function_call": "assistant", "observation": "tool"}
# of Anthropic's data sets, such as hh-rlhf
SPEAKERS = {"Human": "user", "Assistant": "assistant"}
# an object, or a list of objects
WRITTEN = re.compile(r"\{.*\}|\[\s*\{.*\}\s*\]", re.DOTALL)
# without a comma in an array that NumPy or pandas wrote
BETWEEN_TURNS = re.compile(r"\}\s+\{(?=['\"](?:role|content|from|value)['\"]:)")
SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):")


class Exchange(NamedTuple):
    """A prompt and two responses to it."""

    prompt: Turns
    a: str
    b: str


def exchange(a: Any, b: Any, prompt: Any = None) -> Exchange:
    """
    Split a row into the prompt and the two responses.

    Texts are responses already; if both begin with the prompt, it is cut. Conversations (lists of turns with role and
    content) and transcripts (``\\n\\nHuman: ...\\n\\nAssistant: ...``) are cut after the last turn of a user or system
    up to which both are equal; what follows is the response, of which the turns of the assistant are joined. The prompt
    is then what was cut, after ``prompt`` unless that is part of it. None is an empty text.

    Turns may be in ShareGPT's format (from and value), a single turn may stand without a list, and a text that is
    turns as JSON or Python writes them, as in .csv, is a conversation.

    Raises:
        ConfigError: a value is neither text nor a list of turns, or only one of ``a`` and ``b`` is a list.
    """
    a, b, prompt = map(_conversation, (a, b, prompt))
    asked = _turns(prompt)
    kinds = {type(side) for side in (a, b) if side is not None}
    if kinds == {list} or all(_is_transcript(side) for side in (a, b)):
        first, second = _turns(a), _turns(b)
        n = _common_turns(first, second)
        common = first[:n]
        within = asked in (common[: len(asked)], common[-len(asked) :])
        return Exchange(common if within else asked + common, _response(first[n:]), _response(second[n:]))
    if not kinds <= {str}:
        raise ConfigError(f"its two texts are {a!s:.60} and {b!s:.60}, but must be both text or both lists of turns.")
    a, b = a or "", b or ""
    if isinstance(prompt, str) and a.startswith(prompt) and b.startswith(prompt):
        a, b = a[len(prompt) :], b[len(prompt) :]
    return Exchange(asked, a, b)


def _conversation(value: Any) -> Any:
    """Return a list of turns if the value is a turn, or is text that holds such a list."""
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, str) or not WRITTEN.fullmatch(value.strip()):
        return value
    written = BETWEEN_TURNS.sub("}, {", value.strip())
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            found = read(written)
            turns = [found] if isinstance(found, dict) else found
            return turns if all(isinstance(turn, dict) and _keys(turn) for turn in turns) else value
    return value


def _keys(turn: dict[str, Any]) -> tuple[str, str] | None:
    """Return the keys of a turn's role and content."""
    return next((keys for keys in (("role", "content"), ("from", "value")) if turn.keys() >= set(keys)), None)


def cut_common_start(exchanges: Sequence[Exchange], least: float) -> list[Exchange]:
    """
    Cut the words with which both texts of a pair begin, and make them its prompt, as TRL's ``extract_prompt`` does.

    Unlike there, no word is cut in two, and nothing is cut unless a share ``least`` of the pairs begins with equal
    words: responses by themselves often share a first word. Pairs that have a prompt already stay.
    """
    cut = [each if each.prompt else _cut(each) for each in exchanges]
    return cut if sum(bool(each.prompt) for each in cut) >= least * len(cut) else list(exchanges)


def _cut(pair: Exchange) -> Exchange:
    n = _common_letters(pair.a, pair.b)
    while n and pair.a[n - 1].isalnum() and (pair.a[n].isalnum() or pair.b[n].isalnum()):
        n -= 1
    if pair.a[n - 1 : n] == " ":  # the response keeps the space before it
        n -= 1
    start = pair.a[:n].strip()
    return Exchange((("user", start),), pair.a[n:], pair.b[n:]) if start else pair


def _common_letters(a: str, b: str) -> int:
    """Return how many letters are equal at the start of both; at least one of each remains."""
    least, most = 0, max(min(len(a), len(b)) - 1, 0)
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if a[least:middle] == b[least:middle] else (least, middle - 1)
    return least


def _turns(value: Any) -> Turns:
    """Return the turns of a conversation, a transcript, or the text of a user."""
    if isinstance(value, list):
        return tuple(_turn(each, number) for number, each in enumerate(value))
    if not isinstance(value, str | None):
        raise ConfigError(f"{value!s:.60} is neither text nor a list of turns.")
    if value is None or not value.strip():
        return ()
    if not _is_transcript(value):
        return (("user", value),)
    _, *parts = SPEAKER.split(value.strip())
    turns = [(SPEAKERS[who], said.strip()) for who, said in zip(parts[::2], parts[1::2], strict=True)]
    return tuple(turns if turns[-1][1] else turns[:-1])  # a prompt ends with "Assistant:"


def _turn(value: Any, number: int) -> Turn:
    keys = _keys(value) if isinstance(value, dict) else None
    role, content = (value[key] for key in keys) if keys else (None, None)
    if keys and keys[0] == "from":
        role = SHAREGPT.get(str(role), role)
    if isinstance(content, list):  # of parts, among which there may be images
        content = "\n\n".join(part["text"] for part in content if isinstance(part, dict) and part.get("text"))
    if not isinstance(role, str) or not isinstance(content, str | None):
        raise ConfigError(
            f"turn {number} is {value!s:.60}; it must have a role and content, or from and value, both text."
        )
    return role, content or ""


def _is_transcript(value: Any) -> bool:
    return isinstance(value, str) and value.lstrip().startswith("Human:") and "\n\nAssistant:" in value


def _common_turns(a: Turns, b: Turns) -> int:
    """Return how many turns are equal at the start of both, up to the last one of a user or system."""
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    while n and a[n - 1][0].lower() not in ASKING:
        n -= 1
    return n


def _response(turns: Turns) -> str:
    return "\n\n".join(content for role, content in turns if content and role.lower() not in ASKING)
