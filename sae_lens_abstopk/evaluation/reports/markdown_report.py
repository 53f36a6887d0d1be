"""Results as compact Markdown."""

import re

from sae_lens_abstopk.evaluation.reports.merged_results import MergedResults
from sae_lens_abstopk.evaluation.reports.reconstruction_tables import (
    geometry_table,
    reconstruction_table,
    stability_table,
    variants_table,
)
from sae_lens_abstopk.evaluation.reports.report_table import ReportTable, provenance
from sae_lens_abstopk.evaluation.reports.steering_tables import behaviour_table, scores_table, steering_table
from sae_lens_abstopk.evaluation.reports.task_tables import activations_table, codes_table, coverage_table, tasks_table
from sae_lens_abstopk.evaluation.results import Results

# what could start markup; an underscore can only at the edge of a word
_MARKUP = re.compile(r"[\\`*|~]|(?<=\])\(|(?<!\w)_|_(?!\w)")


def markdown_report(merged: MergedResults) -> str:
    """Tables of one or several results: reconstruction, probes, pole coverage, steering."""
    return "\n\n".join(["# Evaluation", *_heads(merged), *map(_table, report_tables(merged))]) + "\n"


def report_tables(merged: MergedResults) -> list[ReportTable]:
    """Every table that has something to show, in the order of a report."""
    tables = (
        reconstruction_table(merged),
        variants_table(merged),
        geometry_table(merged),
        stability_table(merged),
        tasks_table(merged),
        codes_table(merged),
        activations_table(merged),
        coverage_table(merged),
        steering_table(merged),
        scores_table(merged),
        behaviour_table(merged),
    )
    return [table for table in tables if table.rows]


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
    """Text from a model, a file or a name, which must not become markup, a tag or a line of its own."""
    one_line = " ".join(text.split())
    plain = one_line.replace("&", "&amp;").replace("<", "&lt;")
    return _MARKUP.sub(r"\\\g<0>", plain)
