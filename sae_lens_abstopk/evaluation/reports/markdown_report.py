"""Results as compact Markdown."""

import re
from itertools import chain

from sae_lens_abstopk.evaluation.reports.report_sections import report_tables
from sae_lens_abstopk.evaluation.reports.report_table import ReportTable, provenance
from sae_lens_abstopk.evaluation.results.merging import MergedResults
from sae_lens_abstopk.evaluation.results.schema import Results

# characters that could start markup; an underscore only at the edge of a word
_MARKUP = re.compile(r"[\\`*|~]|(?<=\])\(|(?<!\w)_|_(?!\w)")


def markdown_report(merged: MergedResults) -> str:
    """Render the tables of one or several results: reconstruction, probes, pole coverage, steering."""
    tables = chain.from_iterable(report_tables(merged).values())
    return "\n\n".join(["# Evaluation", *_heads(merged), *map(_table, tables)]) + "\n"


def _heads(merged: MergedResults) -> list[str]:
    if len(merged.results) == 1:
        return [_head(merged.results[0])]
    return [f"Result {index}:\n\n{_head(document)}" for index, document in enumerate(merged.results, start=1)]


def _head(document: Results) -> str:
    return "\n".join(f"- {name}: {_escaped(value)}" for name, value in provenance(document).items())


def _table(table: ReportTable) -> str:
    alignment = ["---" if index < table.labels else "---:" for index in range(len(table.columns))]
    lines = [[_escaped(cell) for cell in cells] for cells in (table.columns, *table.rows)]
    body = "\n".join(f"| {' | '.join(cells)} |" for cells in (lines[0], alignment, *lines[1:]))
    return f"## {_escaped(table.title)}\n\n{body}\n\n{_escaped(table.note)}"


def _escaped(text: str) -> str:
    """Escape untrusted text, so that it cannot become markup, a tag or a new line."""
    one_line = " ".join(text.split())
    plain = one_line.replace("&", "&amp;").replace("<", "&lt;")
    return _MARKUP.sub(r"\\\g<0>", plain)
