"""Recognised formats of pairs, by their columns, and the columns that a user names for others."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sae_lens_abstopk.pairs.pair_set import PairColumns
from sae_lens_abstopk.system.errors import ConfigError, require_choice, require_distinct

FORMATS = (
    PairColumns("chosen", "rejected", chosen_first=True),  # TRL
    PairColumns("response_a", "response_b"),  # What's In My Human Feedback?
    PairColumns("output_1", "output_2"),  # AlpacaEval
    PairColumns("conversation_a", "conversation_b"),  # Chatbot Arena
    PairColumns("a", "b"),
)
"""Recognised formats, in lower case; the first whose columns are there is taken."""
LABELS = ("label", "preference", "winner")
PROMPTS = ("prompt", "instruction", "conversations")  # the last in ShareGPT's format
KEYS = ("a", "b", "chosen", "rejected", "label", "prompt", "group")
"""Keys with which a user names columns."""
WAYS = "give a=COLUMN,b=COLUMN or chosen=COLUMN,rejected=COLUMN, and as needed label=, prompt= and group=."


def named_columns(columns: str | Mapping[str, str]) -> dict[str, str]:
    """
    Return the columns by key from ``a=X,b=Y,label=Z,prompt=P,group=G``, or check a mapping of them.

    Raises:
        ConfigError: a key is unknown or given twice, or a column is missing or has two keys.
    """
    if isinstance(columns, Mapping):
        given = list(columns.items())
    else:
        parts = (part.partition("=") for part in columns.split(","))
        given = [(key.strip(), column.strip()) for key, _, column in parts]
    where = f"columns={columns!r}"
    found: dict[str, str] = {}
    for key, column in given:
        require_choice(f"{where}: the key", key, KEYS, remedy=f"; {WAYS[:-1]}")
        if not column:
            raise ConfigError(f"{where}: {key} names no column; write {key}=COLUMN.")
        found[key] = column
    require_distinct(f"{where}: the key", [key for key, _ in given])
    require_distinct(f"{where}: the column", found.values())
    texts = found.keys() & {"a", "b", "chosen", "rejected"}
    if texts not in (set(), {"a", "b"}, {"chosen", "rejected"}):
        raise ConfigError(f"{where} gives {' and '.join(sorted(texts))}; {WAYS}")
    return found


def find_columns(names: Sequence[str], given: Mapping[str, str], where: str) -> PairColumns:
    """
    Return the columns to read of a data set with the columns ``names``.

    If ``given`` names both texts, only the given columns are read; else the format is recognised, and what is given
    replaces what was recognised.

    Raises:
        ConfigError: a given column is missing, the format is not recognised, or chosen texts have a label.
    """
    for key, column in given.items():
        require_choice(f"{where}: {key}", column, names)
    a, b = ("chosen", "rejected") if "chosen" in given else ("a", "b")
    texts = PairColumns(given[a], given[b], chosen_first=a == "chosen") if a in given else _recognised(names, where)
    found = replace(texts, **{key: given[key] for key in ("label", "prompt", "group") if key in given})
    if found.chosen_first and found.label:
        raise ConfigError(
            f"{where}: {found.a} and {found.b} are chosen and rejected texts, which need no label {found.label}; leave "
            "it out, or give a and b."
        )
    return found


def _recognised(names: Sequence[str], where: str) -> PairColumns:
    by_lower = {name.lower(): name for name in reversed(names)}
    for each in FORMATS:
        if each.a in by_lower and each.b in by_lower:
            label = None if each.chosen_first else _first(LABELS, by_lower)
            a, b, prompt = by_lower[each.a], by_lower[each.b], _first(PROMPTS, by_lower)
            return replace(each, a=a, b=b, label=label, prompt=prompt)
    known = ", ".join(f"{each.a} and {each.b}" for each in FORMATS)
    raise ConfigError(
        f"{where}: no pairs are recognised among its columns {', '.join(names)}; known are {known}. For others, set "
        f"columns: {WAYS}"
    )


def _first(names: Sequence[str], by_lower: Mapping[str, str]) -> str | None:
    return next((by_lower[name] for name in names if name in by_lower), None)
