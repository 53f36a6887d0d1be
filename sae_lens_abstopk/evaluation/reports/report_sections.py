"""The content of a report in any format: the origin of its numbers, and its tables by section."""

from sae_lens_abstopk.evaluation.reports import reconstruction_tables, steering_tables, task_tables
from sae_lens_abstopk.evaluation.reports.report_table import ReportTable, either
from sae_lens_abstopk.evaluation.results.merging import MergedResults
from sae_lens_abstopk.evaluation.results.schema import Results

RECONSTRUCTION, SIDES, PROBING, STEERING = "Reconstruction", "Both sides of a latent", "Probing", "Steering"
_TABLES = {
    RECONSTRUCTION: reconstruction_tables.OF_RECONSTRUCTION,
    SIDES: reconstruction_tables.OF_SIDES,
    PROBING: task_tables.OF_TASKS,
    STEERING: steering_tables.OF_STEERING,
}


def report_tables(merged: MergedResults) -> dict[str, list[ReportTable]]:
    """Return the non-empty tables, by section, without empty columns."""
    return {
        section: [table.shown() for of_results in tables if (table := of_results(merged)).rows]
        for section, tables in _TABLES.items()
    }


def provenance(document: Results) -> dict[str, str]:
    """Return the origin of the numbers of a result, by heading."""
    tokens = either(found.tokens for found in document.reconstruction.values())
    measured = f"; {tokens} {document.unit}" if tokens else ""
    measured += f" ({document.kept_tokens})" if document.kept_tokens else ""
    return {
        "model": document.place if document.model else "none, the SAEs are of vectors",
        "text": f"{document.text}, {document.kept_from_training}{measured}",
        "suite": f"{document.suite}, seed {document.seed}",
        "commit": document.commit or "unknown",
        "command": document.command,
        "environment": ", ".join(f"{name} {version}" for name, version in document.environment.items()),
        "created": document.created,
    }
