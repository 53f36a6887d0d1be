"""Read texts, labels and marked words from the columns of one row."""

import re
from collections.abc import Mapping
from typing import Any

from sae_lens_abstopk.evaluation.tasks.task_rows import Row
from sae_lens_abstopk.system.errors import ConfigError

SLOT = re.compile(r"\{([^{}\[\]]+)(?:\[([^{}\[\]]+)\])?\}")


def column(row: Row, name: str, where: str) -> Any:
    """Return a column of a row; raise ConfigError with the existing columns if it is missing."""
    value = row.get(name)
    if value is None:
        raise ConfigError(f"{where}: no column {name!r}, or nothing in it; the columns are {', '.join(map(str, row))}.")
    return value


def filled_pattern(row: Row, pattern: str, where: str) -> str:
    """Return a column, or a pattern filled with columns: ``{prompt} {answer}``, ``{translation[en]}``."""
    if "{" not in pattern:
        return _as_text(column(row, pattern, where), pattern, where)
    if set("{}") & set(SLOT.sub("", pattern)):
        raise ConfigError(f"the pattern {pattern!r} is not understood; slots are {{column}} or {{column[part]}}.")

    def value(slot: re.Match[str]) -> str:
        found = column(row, slot[1], where)
        if slot[2] is None:
            return _as_text(found, slot[1], where)
        parts = found if isinstance(found, Mapping) else {}
        return _as_text(column(parts, slot[2], f"{where}, column {slot[1]!r}"), slot[2], where)

    return SLOT.sub(value, pattern)


def _as_text(value: Any, name: str, where: str) -> str:
    if isinstance(value, Mapping | list):
        part = f"a part of it, as in {{{name}[{next(iter(value), '')}]}}" if isinstance(value, Mapping) else "another"
        raise ConfigError(f"{where}: the column {name!r} holds {type(value).__name__}, not text; name {part}.")
    return str(value)


def mapped_value(row: Row, name: str, names: Mapping[Any, str | None], key: str, where: str) -> str | None:
    """
    Look up the value of column ``name`` in ``names``, the key ``key`` of a task file.

    YAML and CSV may write a label as number or as text, so both are compared as text.
    """
    value = None if name in row and row[name] is None else column(row, name, where)
    by_text = {str(k): v for k, v in names.items()}
    if str(value) not in by_text:
        unquoted = any(isinstance(k, bool) for k in names)
        hint = " Quote yes, no, true and false, which YAML reads as truth values." if unquoted else ""
        raise ConfigError(
            f"{where}: {key} does not list the value {value!r} ({', '.join(by_text)}); add it, with null to leave such "
            f"rows out.{hint}"
        )
    return by_text[str(value)]


def with_extracted(row: Row, patterns: Mapping[str, str], where: str) -> Row:
    """Add the named groups of regular expressions, searched in a row's columns, as further columns."""
    more: dict[str, str | None] = {}
    for name, pattern in patterns.items():
        value = str(column(row, name, where))
        found = re.search(pattern, value)
        if found is None:
            raise ConfigError(
                f"{where}: the column {name!r} holds {value!r}, which the pattern {pattern!r} does not match."
            )
        more.update(found.groupdict())
    return {**row, **more}


def word_span(text: str, word: str, where: str) -> tuple[int, int] | None:
    """
    Return the span of ``word`` in ``text``, as a whole word, else inside another (can|not).

    None if it occurs several times.
    """
    whole = list(re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", text))
    found = whole or list(re.finditer(re.escape(word), text))
    if not found:
        raise ConfigError(f"{where}: the marked word {word!r} does not occur in {text!r}.")
    return found[0].span() if len(found) == 1 else None
