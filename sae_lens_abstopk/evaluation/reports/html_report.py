"""Results as one self-contained HTML page with figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from jinja2 import Environment, PackageLoader, StrictUndefined

from sae_lens_abstopk.evaluation.figures.style import paper_style
from sae_lens_abstopk.evaluation.reports.report_plots import (
    Plot,
    concept_plots,
    methods_plots,
    probe_plots,
    reconstruction_plots,
    steering_plots,
    symmetry_plot,
    two_sidedness_plot,
)
from sae_lens_abstopk.evaluation.reports.report_sections import (
    PROBING,
    RECONSTRUCTION,
    SIDES,
    STEERING,
    report_tables,
)
from sae_lens_abstopk.evaluation.reports.report_table import ReportTable, number, provenance
from sae_lens_abstopk.evaluation.results.merging import MergedResults, MergedTask
from sae_lens_abstopk.evaluation.results.records import shown_name


@dataclass(frozen=True)
class Part:
    """A heading and its content."""

    title: str
    plots: Sequence[Plot] = ()
    tables: Sequence[ReportTable] = ()
    groups: Sequence["Part"] = field(default=())
    """Subsections; their long tables are folded."""
    folded: bool = False
    """Whether the whole part is folded."""


def html_report(merged: MergedResults) -> str:
    """Render the page of one or several results."""
    environment = Environment(
        loader=PackageLoader("sae_lens_abstopk.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    with paper_style():
        return environment.get_template("report.html.j2").render(
            heads=[provenance(document) for document in merged.results],
            names=merged.names,
            sections=[part for part in _sections(merged) if part.plots or part.tables or part.groups],
        )


def _sections(merged: MergedResults) -> Iterator[Part]:
    tables = report_tables(merged)
    yield Part(RECONSTRUCTION, [*reconstruction_plots(merged)], tables[RECONSTRUCTION])
    yield Part(SIDES, [*two_sidedness_plot(merged)], tables[SIDES])
    methods = [*methods_plots(merged)]
    by_concept = [Part("Every method, concept by concept", methods, folded=True)] if methods else []
    yield Part(PROBING, [*probe_plots(merged)], tables[PROBING], by_concept)
    steered = [
        Part(f"{task.name}, {sae}", [*steering_plots(merged, task, sae)], [_doses(task, sae)])
        for task in merged.tasks
        for sae in task.steering
    ]
    yield Part(STEERING, [*symmetry_plot(merged)], tables[STEERING], steered)
    cosines = [
        ReportTable(
            title="Cosines between concepts",
            columns=("concept", *matrix),
            rows=tuple((name, *(number(row.get(other), 2) for other in matrix)) for name, row in matrix.items()),
            note="Between the difference-in-means directions, each from pole A to pole B.",
        )
        for matrix in merged.concept_cosines
    ]
    folded = [Part("Cosines as a table", tables=cosines, folded=True)] if cosines else []
    yield Part("Concepts in the activations", [*concept_plots(merged)], groups=folded)


def _doses(task: MergedTask, sae: str) -> ReportTable:
    """Make a table of every dose of every intervention, with one generated text."""
    record = task.steering[sae]
    compared, random = record.split_random()
    a, b = task.record.poles
    return ReportTable(
        title="Doses and generated texts",
        columns=("by", "strength", "log-odds of B", "change", "cost", "text"),
        rows=tuple(
            (
                shown_name(name),
                f"{dose.strength:+g}",
                number(dose.log_odds),
                number(dose.log_odds - record.baseline_log_odds),
                number(dose.neutral_nll - record.baseline_neutral_nll),
                dose.text,
            )
            for name, found in {**compared, **random}.items()
            for dose in found.doses
        ),
        note="The numbers of the two plots. change: of the log-odds, from the unsteered model's. cost: rise of the "
        "steered model's NLL of neutral text, nats per token. text: the first sample after the first test prompt, "
        f"{record.text_prompt!r}, at every dose; not cherry-picked. Negative strengths: towards {a} (A); positive: "
        f"towards {b} (B).",
        labels=2,
    )
