"""Results as one HTML file with plots, which needs nothing from outside."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from sae_lens_abstopk.evaluation.probing.method_names import PAIR, SINGLE
from sae_lens_abstopk.evaluation.reports.concept_plots import cosines_plot, pca_plot
from sae_lens_abstopk.evaluation.reports.merged_results import MergedResults, MergedTask
from sae_lens_abstopk.evaluation.reports.plot_style import Plot
from sae_lens_abstopk.evaluation.reports.probe_plots import auroc_plot, coverage_plot, methods_plot
from sae_lens_abstopk.evaluation.reports.reconstruction_plots import reconstruction_plots, two_sidedness_plot
from sae_lens_abstopk.evaluation.reports.report_sections import PROBING, RECONSTRUCTION, SIDES, STEERING, report_tables
from sae_lens_abstopk.evaluation.reports.report_table import ReportTable, number, provenance
from sae_lens_abstopk.evaluation.reports.steering_plots import dose_response_plot, effect_cost_plot, symmetry_plot
from sae_lens_abstopk.evaluation.reports.steering_tables import shown_name, split_random
from sae_lens_abstopk.system.files import write_whole


@dataclass(frozen=True)
class Group:
    """Plots and tables that belong together under a heading of their own."""

    title: str
    plots: list[Plot]
    folded: bool = False
    """Whether a click opens it."""
    tables: Sequence[ReportTable] = ()
    """Folded, as they are long."""


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it; without any of it there is no heading either."""

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
    """Write the report of one or several results; the file is there whole or not at all."""
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            heads=[provenance(document) for document in merged.results],
            names=merged.names,
            sections=[section for section in _sections(merged) if section],
            plotly=get_plotlyjs(),
        )
    )
    write_whole(path, page)


def _environment() -> Environment:
    """Everything that is put into a template is escaped."""
    environment = Environment(
        loader=PackageLoader("sae_lens_abstopk.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = _figure_json
    return environment


def _figure_json(plot: Plot) -> Markup:
    """A figure as JSON that may stand in a script element, whatever text is in it."""
    return htmlsafe_json_dumps(plot.figure, lambda figure: str(figure.to_json()))


def _sections(merged: MergedResults) -> Iterator[Section]:
    tables = report_tables(merged)
    yield _section(RECONSTRUCTION, reconstruction_plots(merged), tables[RECONSTRUCTION])
    yield _section(SIDES, [two_sidedness_plot(merged)], tables[SIDES])
    yield _section(
        PROBING,
        [auroc_plot(merged, SINGLE), auroc_plot(merged, PAIR), coverage_plot(merged)],
        tables[PROBING],
        [
            Group(
                "Every method, concept by concept",
                [methods_plot(merged, task) for task in merged.tasks if task.saes],
                folded=True,
            )
        ],
    )
    yield _section(
        STEERING,
        [symmetry_plot(merged)],
        tables[STEERING],
        [_steered(task, sae) for task in merged.tasks for sae in task.steering],
    )
    yield _section(
        "Concepts in the activations",
        [*map(cosines_plot, merged.concept_cosines), *map(pca_plot, merged.tasks)],
        [],
        [Group("Cosines as a table", [], folded=True, tables=[*map(_cosines, merged.concept_cosines)])],
    )


def _section(
    title: str, plots: Sequence[Plot | None], tables: Sequence[ReportTable], groups: Sequence[Group] = ()
) -> Section:
    return Section(
        title=title,
        plots=[plot for plot in plots if plot is not None],
        tables=list(tables),
        groups=[group for group in groups if group.plots or group.tables],
    )


def _steered(task: MergedTask, sae: str) -> Group:
    return Group(
        f"{task.name}, {sae}",
        [dose_response_plot(task, sae), effect_cost_plot(task, sae)],
        tables=[_doses(task, sae)],
    )


def _doses(task: MergedTask, sae: str) -> ReportTable:
    """Every dose of every intervention, with one generated text."""
    record = task.steering[sae]
    compared, random = split_random(record)
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
        note="What the two plots draw. change: of the log-odds, from the unsteered model's. cost: rise of the steered model's "
        "NLL of neutral text, nats per token. text: the first sample after the first test prompt, "
        f"{record.text_prompt!r}, at every dose; not cherry-picked. Negative strengths: towards {a} (A); positive: "
        f"towards {b} (B).",
        labels=2,
    )


def _cosines(matrix: Mapping[str, Mapping[str, float]]) -> ReportTable:
    """Of every two concepts."""
    return ReportTable(
        title="Cosines between concepts",
        columns=("concept", *matrix),
        rows=tuple((name, *(number(row.get(other), 2) for other in matrix)) for name, row in matrix.items()),
        note="Between the difference-in-means directions, each from pole A to pole B.",
    )
