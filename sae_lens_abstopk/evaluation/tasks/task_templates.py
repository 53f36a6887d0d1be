"""Expand templates with fillers to minimal pairs of texts."""

import hashlib
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from sae_lens_abstopk.evaluation.tasks.task import Example
from sae_lens_abstopk.evaluation.tasks.task_schema import TaskFile
from sae_lens_abstopk.system.errors import ConfigError, require_choice, require_range

SLOT = re.compile(r"\{([A-Za-z_]\w*)(?:\.(\d+))?(?:~(\d+))?\}")
BRACES = re.compile(r"\{([^{}]*)\}")
MARK = re.compile(r"\[([^\[\]]+)\]")
# more fillings must be a mistake
MOST_COMBINATIONS = 200_000

Filler = Sequence[str] | Sequence[Sequence[str]]


class Pair(NamedTuple):
    """One filling of a template: the text of pole A and of pole B, and the characters of the marked word in each."""

    texts: tuple[str, str]
    markers: tuple[tuple[int, int] | None, tuple[int, int] | None]


def examples_of_templates(task: TaskFile) -> Iterator[Example]:
    """Expand every template; return both texts of every filling."""
    for number, template in enumerate(task.templates or ()):
        fillers = {**task.fillers, **template.fillers}
        for pair in expand(template.text, fillers, most=task.expansions):
            for pole, (text, marker) in enumerate(zip(pair.texts, pair.markers, strict=True)):
                if template.pole not in (None, task.poles[pole]):
                    continue
                if "marked" in task.reads and marker is None:
                    raise ConfigError(f"reads has 'marked', but the template {template.text!r} has no [word].")
                yield Example(text, pole, template.group or f"template {number}", marker)


def expand(template: str, fillers: Mapping[str, Filler], *, most: int | None = None) -> list[Pair]:
    """
    Fill a template in every way.

    - ``{he|she}``: the words of pole A, then those of pole B.
    - ``{place}``: every entry of the filler ``place``, in both poles. ``{Place}`` begins with a capital. An entry may
      itself be ``A|B``.
    - ``{capital.2}``: column 2 of a filler whose entries are rows; the slots of one filler share a row, and
      ``{capital.2~3}`` takes the column three rows further, cyclically.
    - ``[word]``: the marked word.

    At most ``most`` fillings are kept, drawn by a hash of the template, the same on every machine.
    """
    names = list(dict.fromkeys(_name_of(slot[1], fillers, template) for slot in SLOT.finditer(template)))
    sizes = [len(fillers[name]) for name in names]
    total = math.prod(sizes)
    fewer = "; use fewer or shorter fillers"
    require_range(f"the template {template!r}: fillings", total, at_most=MOST_COMBINATIONS, remedy=fewer)
    choices = list(itertools.product(*map(range, sizes)))
    if most is not None and most < total:
        choices = sorted(sorted(choices, key=lambda c: hashlib.sha256(f"{template} {c}".encode()).digest())[:most])
    return [_fill(template, fillers, dict(zip(names, choice, strict=True))) for choice in choices]


def _name_of(slot: str, fillers: Mapping[str, Filler], template: str) -> str:
    name = slot if slot in fillers else slot[0].lower() + slot[1:]
    require_choice(f"the template {template!r}: slot", name, fillers)
    return name


def _fill(template: str, fillers: Mapping[str, Filler], row_of: Mapping[str, int]) -> Pair:
    def value(slot: re.Match[str]) -> str:
        name = _name_of(slot[1], fillers, template)
        row = fillers[name][(row_of[name] + int(slot[3] or 0)) % len(fillers[name])]
        columns = [row] if isinstance(row, str) else row
        number = int(slot[2] or 1)
        if not 1 <= number <= len(columns) or (slot[2] is None and len(columns) > 1):
            where = f"the template {template!r}: {slot[0]}"
            raise ConfigError(f"{where} must name one of the {len(columns)} columns of {name}, such as {{{name}.1}}.")
        parts = columns[number - 1].split("|")
        if slot[1] != name:
            parts = [part[:1].upper() + part[1:] for part in parts]
        return "{" + "|".join(parts) + "}" if len(parts) > 1 else parts[0]

    filled = SLOT.sub(value, template)
    first, second = (_of_pole(filled, pole, template) for pole in (0, 1))
    return Pair(texts=(first[0], second[0]), markers=(first[1], second[1]))


def _of_pole(filled: str, pole: int, template: str) -> tuple[str, tuple[int, int] | None]:
    def choose(braces: re.Match[str]) -> str:
        parts = braces[1].split("|")
        return parts[pole] if len(parts) == 2 else braces[0]

    text = filled
    while (chosen := BRACES.sub(choose, text)) != text:
        text = chosen
    if set("{}|") & set(text):
        raise ConfigError(f"the template {template!r} has braces or a bar that are not {{words of A|words of B}}.")
    marks = list(MARK.finditer(text))
    if not marks:
        return text, None
    if len(marks) > 1:
        raise ConfigError(f"the template {template!r} marks {len(marks)} words with brackets; mark one.")
    start, end = marks[0].span()
    return text[:start] + marks[0][1] + text[end:], (start, end - 2)
