"""Write recorded values into a page: tables between marks, and numbers in sentences."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table as GitHub Markdown."""
    head, *body = (f"| {' | '.join(cells)} |" for cells in (header, *rows))
    return "\n".join([head, "|---" * len(header) + "|", *body])


def formatted_table(columns: Mapping[str, str], records: Iterable[Mapping[str, Any]]) -> str:
    """Format a row for each record: ``columns`` has the ``str.format`` template of each column, by its head."""
    return markdown_table([*columns], ([form.format(**record) for form in columns.values()] for record in records))


def filled(text: str, parts: dict[str, str]) -> str:
    """
    Replace the text between the marks ``<!-- name -->`` and ``<!-- end of name -->``, for each name of ``parts``.

    Raises:
        ValueError: a mark is missing or occurs twice.
    """
    for name, content in parts.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
            raise ValueError(f"the page needs one {start} and after it one {end}")
        text = f"{text[: text.index(start)]}{start}\n{content}\n{text[text.index(end) :]}"
    return text


def retold(text: str, phrase: str, values: tuple[str, ...]) -> str:
    """
    Put ``values`` at the {} of ``phrase`` in ``text``, across line breaks.

    Raises:
        ValueError: the phrase, with a number at each {}, does not occur exactly once.
    """
    parts = [r"\s+".join(map(re.escape, part.split(" "))) for part in phrase.split("{}")]
    places = list(re.finditer(r"(-?\d(?:[\w.,+]*\w)?)".join(parts), text))
    if len(places) != 1:
        raise ValueError(f"the page has {phrase!r} {len(places)} times; it needs it once")
    for n, value in reversed(list(enumerate(values, start=1))):
        text = text[: places[0].start(n)] + value + text[places[0].end(n) :]
    return text
