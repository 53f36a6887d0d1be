"""Cells of a Markdown report, by section, row and column."""

from sae_lens_abstopk.evaluation.reports.report_files import markdown_report
from sae_lens_abstopk.evaluation.results.merging import merge_results
from sae_lens_abstopk.evaluation.results.schema import Results


def markdown_of(*results: Results) -> str:
    return markdown_report(merge_results(results))


def row(markdown: str, *starts: str) -> list[str]:
    """The cells of the one row that starts with these."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines() if line[:1] == "|"]
    return next(cells for cells in rows if tuple(cells[: len(starts)]) == starts)


def section(markdown: str, title: str) -> str:
    return markdown.split(f"## {title}\n")[1].split("\n## ")[0]


def columns(markdown: str, title: str, *starts: str) -> dict[str, str]:
    """The cells of the one row of a section that starts with these, by the name of their column."""
    table = section(markdown, title)
    header = next(line for line in table.splitlines() if line[:1] == "|")
    return dict(zip([name.strip() for name in header.strip("|").split("|")], row(table, *starts), strict=True))
