"""How what is recorded gets into a page: tables between marks, and numbers in sentences."""

import re


def filled(text: str, parts: dict[str, str]) -> str:
    """
    ``text`` with each of ``parts`` between the marks of its name.

    Raises:
        ValueError: a part has no marks, or not one of each.
    """
    for name, content in parts.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
            raise ValueError(f"the page needs one {start} and after it one {end}")
        text = f"{text[: text.index(start)]}{start}\n{content}\n{text[text.index(end) :]}"
    return text


def retold(text: str, phrase: str, values: tuple[str, ...]) -> str:
    """
    ``text`` with ``values`` at the {} of ``phrase``, however its lines are broken.

    Raises:
        ValueError: the text does not have the phrase, with a number at each {}, exactly once.
    """
    parts = [r"\s+".join(map(re.escape, part.split(" "))) for part in phrase.split("{}")]
    found = list(re.finditer(r"(-?\d(?:[\w.,+]*\w)?)".join(parts), text))
    if len(found) != 1:
        raise ValueError(f"the page has {phrase!r} {len(found)} times; it needs it once")
    for n, value in reversed(list(enumerate(values, start=1))):
        text = text[: found[0].start(n)] + value + text[found[0].end(n) :]
    return text
