"""Templates and fillers: minimal pairs of texts from one line."""

import hashlib
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sae_lens_abstopk.system.errors import ConfigError

SLOT = re.compile(r"\{([A-Za-z_]\w*)(?:\.(\d+))?(?:~(\d+))?\}")
BRACES = re.compile(r"\{([^{}]*)\}")
MARK = re.compile(r"\[([^\[\]]+)\]")
# a product of fillers beyond this is a slip, not a wish
MOST_COMBINATIONS = 200_000

Filler = Sequence[str] | Sequence[Sequence[str]]


class Pair(NamedTuple):
    """One filling of a template: the text of pole A and of pole B, and the characters of the marked word in each."""

    texts: tuple[str, str]
    markers: tuple[tuple[int, int] | None, tuple[int, int] | None]


def expand(template: str, fillers: Mapping[str, Filler], *, most: int | None = None) -> list[Pair]:
    """
    The pairs of a template.

    - ``{he|she}``: the words of pole A, then those of pole B.
    - ``{place}``: every entry of the filler ``place``, in both poles. ``{Place}`` begins with a capital. An entry may
      itself be ``A|B``.
    - ``{capital.2}``: column 2 of a filler whose entries are rows; the slots of one filler share a row, and
      ``{capital.2~3}`` takes the column three rows further on, counted round.
    - ``[word]``: the word to read, for ``"marked"``.

    Args:
        most: Keep this many fillings, drawn evenly by a hash of the template, so that they never depend on a machine or
            a version.

    Raises:
        ConfigError: a slot without a filler, braces that do not match, or poles that come out the same.
    """
    slots = list(SLOT.finditer(template))
    names = list(dict.fromkeys(_name_of(slot[1], fillers, template) for slot in slots))
    sizes = [len(fillers[name]) for name in names]
    total = math.prod(sizes)
    if total > MOST_COMBINATIONS:
        raise ConfigError(f"the template {template!r} has {total:,} fillings; use fewer or shorter fillers.")
    choices: list[tuple[int, ...]] = list(itertools.product(*map(range, sizes)))
    if most is not None and most < total:
        drawn = sorted(choices, key=lambda c: hashlib.sha256(f"{template} {c}".encode()).digest())[:most]
        choices = sorted(drawn)
    return [_fill(template, fillers, dict(zip(names, choice, strict=True))) for choice in choices]


def filler_names(template: str, fillers: Mapping[str, Filler]) -> set[str]:
    """Names of the fillers that a template uses."""
    return {_name_of(slot[1], fillers, template) for slot in SLOT.finditer(template)}


def _name_of(slot: str, fillers: Mapping[str, Filler], template: str) -> str:
    for name in (slot, slot[0].lower() + slot[1:]):
        if name in fillers:
            return name
    raise ConfigError(
        f"the template {template!r} has the slot {{{slot}}}, for which there is no filler; fillers: "
        f"{', '.join(fillers) or 'none'}."
    )


def _fill(template: str, fillers: Mapping[str, Filler], row_of: Mapping[str, int]) -> Pair:
    def value(slot: re.Match[str]) -> str:
        name = _name_of(slot[1], fillers, template)
        entries = fillers[name]
        row = entries[(row_of[name] + int(slot[3] or 0)) % len(entries)]
        if isinstance(row, str):
            if slot[2] or slot[3]:
                raise ConfigError(f"the template {template!r}: {slot[0]} asks for a column, but {name} has no rows.")
            text = row
        elif not slot[2] or not 1 <= int(slot[2]) <= len(row):
            raise ConfigError(
                f"the template {template!r}: {slot[0]} must name a column of {name}, from {{{name}.1}} to "
                f"{{{name}.{len(row)}}}."
            )
        else:
            text = row[int(slot[2]) - 1]
        parts = text.split("|")
        if slot[1] != name:
            parts = [part[:1].upper() + part[1:] for part in parts]
        return "{" + "|".join(parts) + "}" if len(parts) > 1 else parts[0]

    filled = SLOT.sub(value, template)
    first, second = (_of_pole(filled, pole, template) for pole in (0, 1))
    if first[0] == second[0]:
        raise ConfigError(f"the template {template!r} gives the same text for both poles: {first[0]!r}.")
    return Pair(texts=(first[0], second[0]), markers=(first[1], second[1]))


def _of_pole(filled: str, pole: int, template: str) -> tuple[str, tuple[int, int] | None]:
    def choose(braces: re.Match[str]) -> str:
        parts = braces[1].split("|")
        if len(parts) != 2:
            raise ConfigError(f"the template {template!r}: {{{braces[1]}}} must be {{words of A|words of B}}.")
        return parts[pole]

    text = filled
    while (chosen := BRACES.sub(choose, text)) != text:
        text = chosen
    if "{" in text or "}" in text or "|" in text:
        raise ConfigError(f"the template {template!r} has a brace or a bar without its partner.")
    marks = list(MARK.finditer(text))
    if not marks:
        return text, None
    if len(marks) > 1:
        raise ConfigError(f"the template {template!r} marks {len(marks)} words with brackets; mark one.")
    start, end = marks[0].span()
    return text[:start] + marks[0][1] + text[end:], (start, end - 2)
