"""Print results on a terminal: a verdict, and tables, split where too wide, without cutting numbers."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sae_lens_abstopk.evaluation.reports.report_sections import provenance, report_tables
from sae_lens_abstopk.evaluation.reports.report_table import ReportTable, number
from sae_lens_abstopk.evaluation.results.merging import MergedResults
from sae_lens_abstopk.evaluation.results.records import SAETaskRecord
from sae_lens_abstopk.system.terminal import UNLIMITED

MOST_ROWS = 40
"""Rows of the longest table that is printed."""
ONE_POLE = 0.5
"""Pole coverage of a latent that fires for one pole only."""
_GAP, _WIDEST_NAME = 2, 20


def print_verdict(merged: MergedResults, page: Path, console: Console) -> None:
    """Print the concepts that one latent covers better than the controls, the cost of each SAE, and ``page``."""
    if merged.tasks:
        console.print("One latent covers both poles of a concept better than the controls, by:")
    for sae in merged.saes if merged.tasks else ():
        gains = {task.name: coverage_gain(task.saes[sae.name]) for task in merged.tasks if sae.name in task.saes}
        better = ", ".join(f"{name} {gain:+.2f}" for name, gain in gains.items() if gain)
        others = ", ".join(name for name, gain in gains.items() if not gain)
        parts = (better, others and f"{'not' if better else 'none of'} {others}")
        console.print(Text(f"  {sae.name}: {'; '.join(filter(None, parts))}"))
    errors = {sae.name: f"FVU {number(found.fvu)} at L0 {number(found.l0, 1)}" for sae, found in merged.reconstructed}
    costs = [
        f"{sae.name} {number(found.loss and found.loss.ce_sae - found.loss.ce_clean)} ({errors[sae.name]})"
        for sae, found in merged.reconstructed
    ]
    if merged.unit == "rows":
        console.print(Text(", ".join(f"{name} {error}" for name, error in errors.items())))
    elif costs:
        console.print(Text(f"Cost in nats a token: {', '.join(costs)}"))
    console.print(Text(f"Page: {page}"), soft_wrap=True)


def coverage_gain(found: SAETaskRecord) -> float | None:
    """Return the best coverage above every control and one pole; None if its interval is not above them."""
    coverage = found.best_coverage.coverage
    controls = [each.high or each.value or 0.0 for each in found.coverage_controls.values()]
    bar = max([ONE_POLE, *controls])
    low = coverage.value if coverage.low is None else coverage.low
    return None if low is None or coverage.value is None or low <= bar else coverage.value - bar


def print_report(merged: MergedResults, console: Console) -> None:
    """Print the origin of the results and the tables of the Markdown report, without its notes."""
    several = len(merged.results) > 1
    for index, document in enumerate(merged.results, start=1):
        for key, value in provenance(document).items():
            line = Text(f"result {index} {key}: " if several else f"{key}: ", style="bold")
            console.print(line.append(value, style="not bold"))
        console.print()
    for table in chain.from_iterable(report_tables(merged).values()):
        if console.width == UNLIMITED:
            (whole,) = _parts(table, console.width)
            whole.title = table.title
            console.print(whole)
            continue
        console.print(Text(table.title, style="bold"))
        if len(table.rows) > MOST_ROWS:
            console.print(f"{len(table.rows):,} rows, which are in report.md and report.html")
        else:
            for part in _parts(table, console.width):
                console.print(part)
            if table.warning:
                console.print(Text(table.warning, style="yellow"))
        console.print()
    console.print(Text("[ ]: 95 % bootstrap intervals. report.md and report.html explain the columns.", style="dim"))


def _parts(table: ReportTable, width: int) -> Iterator[Table]:
    """Yield the table, or parts of it that fit, each with the columns of names."""
    columns = list(zip(*table.lines, strict=True))
    longest_words = [max(len(word) for cell in cells for word in cell.split() or [""]) for cells in columns]
    # an interval stays on one line; headings may wrap
    widths = [max(word, *map(len, cells[1:])) for word, cells in zip(longest_words, columns, strict=True)]
    names = sum(min(word, _WIDEST_NAME) + _GAP for word in longest_words[: table.labels])
    part: list[int] = []
    for index in range(table.labels, len(columns)):
        if part and names + sum(widths[other] + _GAP for other in (*part, index)) > width:
            yield _part(table, columns, widths, part)
            part = []
        part.append(index)
    yield _part(table, columns, widths, part)


def _part(table: ReportTable, columns: Sequence[Sequence[str]], widths: Sequence[int], numbers: Sequence[int]) -> Table:
    drawn = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold underline")
    shown = [*range(table.labels), *numbers]
    for index in shown:
        is_name = index < table.labels
        # a fixed width, because rich would narrow numbers
        drawn.add_column(
            Text(columns[index][0]),
            justify="left" if is_name else "right",
            overflow="fold",
            width=None if is_name else widths[index],
        )
    for cells in zip(*(columns[index][1:] for index in shown), strict=True):
        drawn.add_row(*map(Text, cells))
    return drawn
