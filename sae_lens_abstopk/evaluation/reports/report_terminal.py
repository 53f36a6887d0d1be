"""Print results on a terminal; split tables that are too wide, without cutting numbers."""

from collections.abc import Iterator, Sequence
from itertools import chain

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sae_lens_abstopk.evaluation.reports.report_sections import report_tables
from sae_lens_abstopk.evaluation.reports.report_table import ReportTable, provenance
from sae_lens_abstopk.evaluation.results.merging import MergedResults

MOST_ROWS = 40
"""Width limit of a table."""
_GAP = 2
_WIDEST_NAME, _NARROWEST_NAME = 20, 6


def print_report(merged: MergedResults, console: Console) -> None:
    """Print the origin of the results and the tables of the Markdown report."""
    several = len(merged.results) > 1
    for index, document in enumerate(merged.results, start=1):
        for key, value in provenance(document).items():
            line = Text(f"result {index} {key}: " if several else f"{key}: ", style="bold")
            console.print(line.append(value, style="not bold"))
        console.print()
    for table in chain.from_iterable(report_tables(merged).values()):
        console.print(Text(table.title, style="bold"))
        if len(table.rows) > MOST_ROWS:
            console.print(f"{len(table.rows):,} rows, which are in report.md and report.html")
            console.print()
            continue
        for part in _parts(table, console.width):
            console.print(part)
        console.print(Text(table.note, style="dim"))
        console.print()


def _parts(table: ReportTable, width: int) -> Iterator[Table]:
    """Return the table, or parts of it that fit, each with the columns of names."""
    names = [min(_longest_word(table, index), _WIDEST_NAME) for index in range(table.labels)]
    part: list[int] = []
    for index in range(table.labels, len(table.columns)):
        if part and _total(names, [_number_width(table, other) for other in (*part, index)]) > width:
            yield _part(table, names, part, width)
            part = []
        part.append(index)
    yield _part(table, names, part, width)


def _part(table: ReportTable, names: Sequence[int], numbers: Sequence[int], width: int) -> Table:
    """Make a table of some columns with fixed widths, because rich would narrow numbers."""
    number_widths = [_number_width(table, index) for index in numbers]
    name_widths = list(names)
    while _total(name_widths, number_widths) > width and max(name_widths) > _NARROWEST_NAME:
        name_widths[name_widths.index(max(name_widths))] -= 1
    room = width - _total(name_widths, number_widths)
    for index, taken in enumerate(name_widths):
        wanted = max(len(row[index]) for row in (table.columns, *table.rows))
        name_widths[index] += (more := max(min(wanted - taken, room), 0))
        room -= more
    drawn = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold underline")
    columns = [*range(table.labels), *numbers]
    for index, wide in zip(columns, [*name_widths, *number_widths], strict=True):
        justify = "left" if index < table.labels else "right"
        drawn.add_column(Text(table.columns[index]), justify=justify, overflow="fold", vertical="top", width=wide)
    for row in table.rows:
        drawn.add_row(*(Text(row[index]) for index in columns))
    return drawn


def _total(names: Sequence[int], numbers: Sequence[int]) -> int:
    return sum(wide + _GAP for wide in (*names, *numbers))


def _number_width(table: ReportTable, index: int) -> int:
    """Return the width of the longest cell, so that an interval stays on one line; headings may wrap."""
    return max(_longest_word(table, index), *(len(row[index]) for row in table.rows))


def _longest_word(table: ReportTable, index: int) -> int:
    return max((len(word) for row in (table.columns, *table.rows) for word in row[index].split()), default=1)
