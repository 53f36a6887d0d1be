"""Tables of commands as text, Markdown or JSON: the options of the commands that print them, and the console."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from decimal import Decimal
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text
from typer import Option
from typing_extensions import override

from sae_lens_abstopk.system.terminal import UNLIMITED, PrintableConsole

NUMBER = re.compile(r"([-+]?)((?:\d[\d,]*)?\.?\d+(?:e[-+]?\d+)?)(%?)")


Form = Literal["text", "md", "json"]
FORM: ContextVar[Form] = ContextVar("FORM", default="text")
FormOption = Annotated[Form, Option("--format", help="Tables as text, Markdown (md) or JSON.")]
JsonOption = Annotated[bool, Option("--json", help="The same as --format json.")]


def prints_tables(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--format`` and ``--json`` to a command whose console is that of :func:`output_console`."""

    @wraps(command)
    def with_form(*args: Any, form: Form, as_json: bool, **options: Any) -> None:
        before = FORM.set("json" if as_json else form)
        try:
            command(*args, **options)
        finally:
            FORM.reset(before)

    added = [
        Parameter("form", Parameter.KEYWORD_ONLY, default="text", annotation=FormOption),
        Parameter("as_json", Parameter.KEYWORD_ONLY, default=False, annotation=JsonOption),
    ]
    given = signature(command)
    with_form.__signature__ = given.replace(parameters=[*given.parameters.values(), *added])  # type: ignore[attr-defined]
    return with_form


def output_console(**options: Any) -> PrintableConsole:
    """Make the console of standard output in the form that the command was given."""
    form = FORM.get()
    return PrintableConsole(**options) if form == "text" else FormConsole(form, **options)


class FormConsole(PrintableConsole):
    """A console that prints tables as Markdown, or everything as one JSON document when it is closed."""

    def __init__(self, form: Form, **options: Any) -> None:
        super().__init__(width=UNLIMITED, **options)
        self._form = form
        self._tables: list[dict[str, Any]] = []
        self._lines: list[str] = []

    @override
    def print(self, *objects: Any, **options: Any) -> None:
        for each in objects or ("",):
            if not isinstance(each, Table):
                self.out(each.plain if isinstance(each, Text) else each)
            elif self._form == "md":
                self._write(markdown(each))
            else:
                self._tables.append({"title": _plain(each.title) or None, "rows": list(rows(each))})
                self._lines += [_plain(each.caption)] if each.caption else []

    @override
    def out(self, *objects: Any, **options: Any) -> None:
        if self._form == "json":
            self._lines += [line for each in objects for line in str(each).splitlines() if line.strip()]
        else:
            self._write(" ".join(map(str, objects)))

    def close(self) -> None:
        """Write the JSON document: ``tables``, each with ``title`` and ``rows``, and all other ``lines``."""
        if self._form == "json":
            document = {"tables": self._tables, "lines": self._lines}
            self._write(json.dumps(document, ensure_ascii=False, indent=2))

    def _write(self, text: str) -> None:
        super().print(text, soft_wrap=True, markup=False, emoji=False)


def continuations(prompt: str, heading: str, texts: Mapping[str, str]) -> Table:
    """Return a table of a prompt's continuations, by what is under ``heading``: names, or numbers."""
    first = Column(heading, justify="right" if all(NUMBER.fullmatch(by) for by in texts) else "left")
    table = Table(first, "continuation", title=Text(prompt), box=None, pad_edge=False, title_justify="left")
    for by, text in texts.items():
        table.add_row(by, Text(repr(text)))
    return table


def print_page(table: Table, sentences: Iterable[str], page: Path, console: Console) -> None:
    """Print a table, sentences about it, and the path of its page."""
    console.print(table)
    for sentence in sentences:
        console.print(sentence, style="dim")
    console.out(page)


def rows(table: Table) -> Iterator[dict[str, str | float | None]]:
    """Yield each row by heading; in right-aligned columns a number is a number, a percentage a share, and - is None."""
    headings, *lines = _cells(table)
    readers = [_value if column.justify == "right" else str for column in table.columns]
    for cells in lines:
        yield {name: read(cell) for name, read, cell in zip(headings, readers, cells, strict=True)}


def markdown(table: Table) -> str:
    """Return the table in Markdown between empty lines, with its title above and its caption below."""
    lines = _cells(table)
    lines.insert(1, [":--" if column.justify == "left" else "--:" for column in table.columns])
    parts = (
        f"**{_plain(table.title)}**" if table.title else "",
        "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines),
        _plain(table.caption),
    )
    return "\n" + "\n\n".join(filter(None, parts)) + "\n"


def _cells(table: Table) -> list[list[str]]:
    """Return the headings, and the cells of each row."""
    columns = ([column.header, *column.cells] for column in table.columns)
    return [[_plain(cell) for cell in cells] for cells in zip(*columns, strict=True)]


def _plain(cell: Any) -> str:
    return " ".join((cell.plain if isinstance(cell, Text) else str(cell or "")).split())


def _value(cell: str) -> str | float | None:
    if cell == "-":
        return None
    if not (found := NUMBER.fullmatch(cell)):
        return cell
    number = Decimal(found[1] + found[2].replace(",", ""))
    if found[3]:
        return float(number / 100)
    return int(number) if number == number.to_integral_value() and "." not in found[2] else float(number)
