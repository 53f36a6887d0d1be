"""The tables of a report, in any format."""

from sae_lens_abstopk.evaluation.reports.reconstruction_tables import (
    geometry_table,
    reconstruction_table,
    stability_table,
    variants_table,
)
from sae_lens_abstopk.evaluation.reports.report_table import ReportTable, without_empty_columns
from sae_lens_abstopk.evaluation.reports.steering_tables import behaviour_table, scores_table, steering_table
from sae_lens_abstopk.evaluation.reports.task_tables import (
    accuracy_table,
    activations_table,
    codes_table,
    coverage_table,
    tasks_table,
)
from sae_lens_abstopk.evaluation.results.merging import MergedResults

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
        section: [without_empty_columns(table) for of_results in tables if (table := of_results(merged)).rows]
        for section, tables in _TABLES.items()
    }
