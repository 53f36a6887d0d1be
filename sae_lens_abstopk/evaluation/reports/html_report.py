"""Results as one self-contained HTML page with figures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.figure import Figure

from sae_lens_abstopk.evaluation.figures.intervals import auroc_figure, coverage_figure, methods_figure
from sae_lens_abstopk.evaluation.figures.of_saes import (
    cosines_figure,
    fvu_figure,
    is_two_sided,
    pca_figure,
    recovered_figure,
    two_sidedness_figure,
)
from sae_lens_abstopk.evaluation.figures.of_steering import dose_response_figure, effect_cost_figure, symmetry_figure
from sae_lens_abstopk.evaluation.figures.style import inline_svg, paper_style
from sae_lens_abstopk.evaluation.probing.method_names import LOGISTIC_REGRESSION, PAIR, PERMUTED, SINGLE, UNTRAINED
from sae_lens_abstopk.evaluation.reports.report_sections import (
    PROBING,
    RECONSTRUCTION,
    SIDES,
    STEERING,
    provenance,
    report_tables,
)
from sae_lens_abstopk.evaluation.reports.report_table import ReportTable, number
from sae_lens_abstopk.evaluation.results.merging import MergedResults, MergedTask
from sae_lens_abstopk.evaluation.results.records import Interval, shown_name
from sae_lens_abstopk.system.pages import templates


@dataclass(frozen=True)
class Plot:
    """A figure with its caption."""

    title: str
    caption: str
    svg: Markup


@dataclass(frozen=True)
class Part:
    """A heading and its content."""

    title: str
    plots: Sequence[Plot] = ()
    tables: Sequence[ReportTable] = ()
    groups: Sequence["Part"] = ()
    """Subsections; their long tables are folded."""
    folded: bool = False
    """Whether the whole part is folded."""


def html_report(merged: MergedResults) -> str:
    """Render the page of one or several results."""
    tables = report_tables(merged)
    with paper_style():
        methods = Part("Every method, concept by concept", _methods(merged), folded=True)
        cosines = Part("Cosines as a table", tables=list(map(_cosines, merged.concept_cosines)), folded=True)
        sections = [
            Part(RECONSTRUCTION, _reconstruction(merged), tables[RECONSTRUCTION]),
            Part(SIDES, _two_sidedness(merged), tables[SIDES]),
            Part(PROBING, _probes(merged), tables[PROBING], [methods]),
            Part(STEERING, _symmetry(merged), tables[STEERING], _steered(merged)),
            Part("Concepts in the activations", _concepts(merged), groups=[cosines]),
        ]
    return (
        templates("evaluation")
        .get_template("report.html.j2")
        .render(
            heads=[provenance(document) for document in merged.results],
            names=merged.names,
            sections=[part for part in sections if part.plots or part.tables],
        )
    )


def _plots(figures: Iterable[tuple[str, str, Figure | None]]) -> list[Plot]:
    """Draw titles, captions and figures; leave out those without a figure."""
    return [
        Plot(title, caption, Markup(inline_svg(figure))) for title, caption, figure in figures if figure is not None
    ]


def _reconstruction(merged: MergedResults) -> list[Plot]:
    variants = {sae.variant: sae.curve for sae in merged.saes}
    lines = " Grey lines join the means of a variant at several k." if len({*variants.values()}) < len(variants) else ""
    fvu = (
        "Share of the variance that the reconstruction does not explain, against the number of active latents; further "
        f"down and to the left is better. Compare at equal L0 and equal training only.{lines}"
    )
    recovered = (
        "Share of the loss increase under zero ablation that the SAE recovers; further up and to the left is better. "
        "Zero ablation is a lenient yardstick: the table has mean ablation too."
    )
    return _plots(
        [
            ("FVU against L0", fvu, fvu_figure(merged)),
            ("Loss Recovered against L0", recovered, recovered_figure(merged)),
        ]
    )


def _two_sidedness(merged: MergedResults) -> list[Plot]:
    one_sided = [sae.name for sae, found in merged.reconstructed if not is_two_sided(found)]
    left_out = f" Not drawn, as they have one side only: {', '.join(one_sided)}." if one_sided else ""
    caption = (
        "How evenly the firings of a latent are shared between its sides: 0 is one side only, 0.5 both alike. A latent "
        f"that fires on both sides need not mean opposites.{left_out}"
    )
    return _plots([("Two-sidedness", caption, two_sidedness_figure(merged))])


def _probes(merged: MergedResults) -> list[Plot]:
    saes = [found for task in merged.tasks for found in task.saes.values()]
    probed = {name for found in saes for name in found.probes}

    def auroc(method: str, of: str) -> str:
        controls = {PERMUTED: "permuted poles, mean and range", UNTRAINED: "an SAE with fresh weights"}
        grey = "; ".join(words for ending, words in controls.items() if method + ending in probed)
        star = " The star is logistic regression on the activations." if LOGISTIC_REGRESSION in probed else ""
        return (
            f"How well the {of}, chosen on train, tells the poles apart on test texts. "
            f"{_bars([found.probes[method].auroc for found in saes if method in found.probes], 'groups of texts')}"
            f"{f' Grey are controls ({grey}).' if grey else ''}{star} A high AUROC needs no two sides: a latent that "
            "fires for a single pole has it too."
        )

    covered = [each.coverage for found in saes for each in (found.latent, found.best_coverage, found.pair)]
    coverage = (
        "Share of the texts of both poles on which a latent fires, with a different side for each; a non-negative "
        f"latent cannot exceed the dashed line at 0.5, but a pair of them can. {_bars(covered, 'groups of texts')}"
    )
    methods = {SINGLE: "best single latent", PAIR: "best pair of sides, one per pole"}
    figures = [(f"AUROC of the {of}", auroc(key, of), auroc_figure(merged, key)) for key, of in methods.items()]
    return _plots([*figures, ("Pole coverage", coverage, coverage_figure(merged))])


def _bars(intervals: Sequence[Interval], units: str) -> str:
    """Explain the bars of a figure, and the points that have none."""
    drawn = [each.low is not None for each in intervals if each.value is not None]
    bars = f"Bars are 95 % intervals that resample {units}." if any(drawn) else ""
    without = f"A point without a bar has no interval: too few {units}, or no spread." if not all(drawn) else ""
    return " ".join(filter(None, (bars, without)))


def _methods(merged: MergedResults) -> list[Plot]:
    return _plots(
        (
            f"{task.name}: every method",
            f"{task.record.poles[0]} (A) against {task.record.poles[1]} (B) on {task.record.texts[2]:,} test texts of "
            f"{task.record.test_groups} groups. "
            f"{_bars([each.auroc for found in task.saes.values() for each in found.probes.values()], 'groups')} Grey "
            "points are controls: as far as they are from 0.5, the other results may be due to chance or the texts.",
            methods_figure(merged, task) if task.saes else None,
        )
        for task in merged.tasks
    )


def _symmetry(merged: MergedResults) -> list[Plot]:
    steered = [
        each for task in merged.tasks for record in task.steering.values() for each in record.split_random()[0].values()
    ]
    unmatched = not all(effect.reached for each in steered for effect in (each.towards_a, each.towards_b))
    caption = (
        "The weaker of the two effects on the log-odds over the stronger, at matched cost: 1 if both are equally "
        f"strong, 0 if both push to the same pole. {_bars([each.symmetry for each in steered], 'prompts')}"
        f"{' The table marks what is not at matched cost.' if unmatched else ''} The ratio does not show how large the "
        "effects are."
    )
    return _plots([("Symmetry", caption, symmetry_figure(merged))])


def _steered(merged: MergedResults) -> list[Part]:
    parts = []
    for task in merged.tasks:
        for sae, record in task.steering.items():
            only = merged.only(tasks=[task.name], saes=[sae])
            random = "grey are random directions, " if record.split_random()[1] else ""
            response = (
                f"Log-odds between the tokens of the poles after {record.prompts[1]} test prompts, at every strength "
                f"of latent {record.latent} and of directions added with the same norm; {random}"
                "the dotted line is the unsteered model. Means, without intervals: those at matched cost are in the "
                "table."
            )
            cost = (
                "Change of the log-odds, up towards B and down towards A, against its cost: the rise of the steered "
                "model's NLL of neutral text, at which strengths are matched. Steeper is better; a cost of a nat or "
                "more is a broken model."
            )
            figures = [
                ("Dose and response", response, dose_response_figure(only)),
                ("Effect against cost", cost, effect_cost_figure(only)),
            ]
            parts.append(Part(f"{task.name}, {sae}", _plots(figures), [_doses(task, sae)]))
    return parts


def _doses(task: MergedTask, sae: str) -> ReportTable:
    """Make a table of every dose of every intervention, with one generated text."""
    record = task.steering[sae]
    compared, random = record.split_random()
    a, b = task.record.poles
    return ReportTable(
        "Doses and generated texts",
        [
            {
                "by": shown_name(name),
                "strength": f"{dose.strength:+g}",
                "log-odds of B": number(dose.log_odds),
                "change": number(dose.log_odds - record.baseline_log_odds),
                "cost": number(dose.neutral_nll - record.baseline_neutral_nll),
                "text": dose.text,
            }
            for name, found in {**compared, **random}.items()
            for dose in found.doses
        ],
        "The numbers of the two plots. change: of the log-odds, from the unsteered model's. cost: rise of the "
        "steered model's NLL of neutral text, nats per token. text: the first sample after the first test prompt, "
        f"{record.text_prompt!r}, at every dose; not cherry-picked. Negative strengths: towards {a} (A); positive: "
        f"towards {b} (B).",
        labels=2,
    )


def _concepts(merged: MergedResults) -> list[Plot]:
    cosines = (
        "Cosines between the difference-in-means directions, each from pole A to pole B: 0 is a direction of its "
        "own. Two concepts can share a direction because their texts do, and the sign follows from which pole is "
        "called A."
    )
    texts = (
        "Activations of the texts in their two directions of largest variance, with its shares. Poles that mix "
        "here may still be told apart along another direction."
    )
    return [
        *_plots(("Cosines between concepts", cosines, cosines_figure(matrix)) for matrix in merged.concept_cosines),
        *_plots((task.name, texts, pca_figure(task)) for task in merged.tasks),
    ]


def _cosines(matrix: Mapping[str, Mapping[str, float]]) -> ReportTable:
    return ReportTable(
        "Cosines between concepts",
        [{"concept": name} | {other: number(row.get(other), 2) for other in matrix} for name, row in matrix.items()],
        "Between the difference-in-means directions, each from pole A to pole B.",
    )
