"""Results as one HTML file with figures, which needs nothing from outside."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from sae_lens_abstopk.evaluation.figures.style import paper_style
from sae_lens_abstopk.evaluation.reports.report_plots import (
    Plot,
    concept_plots,
    methods_plot,
    probe_plots,
    reconstruction_plots,
    steering_plots,
    symmetry_plot,
    two_sidedness_plot,
)
from sae_lens_abstopk.evaluation.reports.report_sections import PROBING, RECONSTRUCTION, SIDES, STEERING, report_tables
from sae_lens_abstopk.evaluation.reports.report_table import ReportTable, number, provenance
from sae_lens_abstopk.evaluation.results.merged_results import MergedResults, MergedTask
from sae_lens_abstopk.evaluation.results.steering_records import shown_name
from sae_lens_abstopk.system.files import write_whole


@dataclass(frozen=True)
class Group:
    """Plots and tables that belong together under a heading of their own."""

    title: str
    plots: list[Plot]
    folded: bool = False
    """True if a click opens it."""
    tables: Sequence[ReportTable] = ()
    """Folded, as they are long."""


@dataclass(frozen=True)
class Section:
    """A heading and its content; a section without content is left out."""

    title: str
    plots: list[Plot]
    tables: list[ReportTable]
    groups: list[Group]

    @property
    def anchor(self) -> str:
        """Of the heading."""
        return self.title.lower().replace(" ", "-")

    def __bool__(self) -> bool:
        return bool(self.plots or self.tables or self.groups)


def write_html_report(merged: MergedResults, path: Path) -> None:
    """Write the report of one or several results, whole or not at all."""
    environment = Environment(
        loader=PackageLoader("sae_lens_abstopk.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    with paper_style():
        page = environment.get_template("report.html.j2").render(
            heads=[provenance(document) for document in merged.results],
            names=merged.names,
            sections=[section for section in _sections(merged) if section],
        )
    write_whole(path, page)


def _sections(merged: MergedResults) -> Iterator[Section]:
    tables = report_tables(merged)
    yield _section(RECONSTRUCTION, reconstruction_plots(merged), tables[RECONSTRUCTION])
    yield _section(SIDES, two_sidedness_plot(merged), tables[SIDES])
    methods = [plot for task in merged.tasks if task.saes for plot in methods_plot(merged, task)]
    yield _section(
        PROBING,
        probe_plots(merged),
        tables[PROBING],
        [Group("Every method, concept by concept", methods, folded=True)],
    )
    steered = [
        Group(f"{task.name}, {sae}", [*steering_plots(merged, task, sae)], tables=[_doses(task, sae)])
        for task in merged.tasks
        for sae in task.steering
    ]
    yield _section(STEERING, symmetry_plot(merged), tables[STEERING], steered)
    cosines = [*map(_cosines, merged.concept_cosines)]
    yield _section(
        "Concepts in the activations",
        concept_plots(merged),
        [],
        [Group("Cosines as a table", [], folded=True, tables=cosines)],
    )


def _section(title: str, plots: Iterable[Plot], tables: Sequence[ReportTable], groups: Sequence[Group] = ()) -> Section:
    return Section(title, [*plots], [*tables], [group for group in groups if group.plots or group.tables])


def _doses(task: MergedTask, sae: str) -> ReportTable:
    """Every dose of every intervention, with one generated text."""
    record = task.steering[sae]
    compared, random = record.split_random()
    rows = [
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
    ]
    a, b = task.record.poles
    return ReportTable(
        title="Doses and generated texts",
        columns=("by", "strength", "log-odds of B", "change", "cost", "text"),
        rows=tuple(rows),
        note="The numbers of the two plots. change: of the log-odds, from the unsteered model's. cost: rise of the steered "
        "model's NLL of neutral text, nats per token. text: the first sample after the first test prompt, "
        f"{record.text_prompt!r}, at every dose; not cherry-picked. Negative strengths: towards {a} (A); positive: "
        f"towards {b} (B).",
        labels=2,
    )


def _cosines(matrix: Mapping[str, Mapping[str, float]]) -> ReportTable:
    return ReportTable(
        title="Cosines between concepts",
        columns=("concept", *matrix),
        rows=tuple((name, *(number(row.get(other), 2) for other in matrix)) for name, row in matrix.items()),
        note="Between the difference-in-means directions, each from pole A to pole B.",
    )
