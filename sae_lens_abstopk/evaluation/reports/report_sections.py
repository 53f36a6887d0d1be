"""The content of a report in any format: the origin of its numbers, and its tables by section."""

from sae_lens_abstopk.evaluation.reports.reconstruction_tables import (
    geometry_table,
    reconstruction_table,
    stability_table,
    variants_table,
)
from sae_lens_abstopk.evaluation.reports.report_table import ReportTable
from sae_lens_abstopk.evaluation.reports.steering_tables import behaviour_table, scores_table, steering_table
from sae_lens_abstopk.evaluation.reports.task_tables import (
    accuracy_table,
    activations_table,
    codes_table,
    coverage_table,
    tasks_table,
)
from sae_lens_abstopk.evaluation.results.merging import MergedResults
from sae_lens_abstopk.evaluation.results.schema import Results

RECONSTRUCTION, SIDES, PROBING, STEERING = "Reconstruction", "Both sides of a latent", "Probing", "Steering"
_TABLES = {
    RECONSTRUCTION: (reconstruction_table, variants_table),
    SIDES: (geometry_table, stability_table),
    PROBING: (tasks_table, codes_table, activations_table, accuracy_table, coverage_table),
    STEERING: (steering_table, scores_table, behaviour_table),
}


def report_tables(merged: MergedResults) -> dict[str, list[ReportTable]]:
    """Return the non-empty tables, by section, without empty columns."""
    return {
        section: [table.shown() for of_results in tables if (table := of_results(merged)).rows]
        for section, tables in _TABLES.items()
    }


def provenance(document: Results) -> dict[str, str]:
    """Return the origin of the numbers of a result, by heading."""
    tokens = sorted({found.tokens for found in document.reconstruction.values()})
    measured = f"; {' or '.join(f'{count:,}' for count in tokens)} {document.unit}" if tokens else ""
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
