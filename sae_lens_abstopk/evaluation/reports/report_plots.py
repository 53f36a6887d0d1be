"""The figures of a report, each with a caption."""

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.figure import Figure

from sae_lens_abstopk.evaluation.figures.of_concepts import cosines_figure, pca_figure
from sae_lens_abstopk.evaluation.figures.of_probes import auroc_figure, coverage_figure, methods_figure
from sae_lens_abstopk.evaluation.figures.of_saes import (
    fvu_figure,
    is_two_sided,
    recovered_figure,
    two_sidedness_figure,
)
from sae_lens_abstopk.evaluation.figures.of_steering import dose_response_figure, effect_cost_figure, symmetry_figure
from sae_lens_abstopk.evaluation.figures.style import inline_svg
from sae_lens_abstopk.evaluation.probing.method_names import PAIR, SINGLE
from sae_lens_abstopk.evaluation.results.merging import MergedResults, MergedTask


@dataclass(frozen=True)
class Plot:
    """A figure for a page."""

    title: str
    caption: str
    svg: Markup


def reconstruction_plots(merged: MergedResults) -> Iterator[Plot]:
    """Plot FVU and Loss Recovered against L0."""
    yield from _plot(
        "FVU against L0",
        "Share of the variance that the reconstruction does not explain, against the number of active latents; further "
        "down and to the left is better. Compare at equal L0 and equal training only. Grey lines join the means of a "
        "variant at several k.",
        fvu_figure(merged),
    )
    yield from _plot(
        "Loss Recovered against L0",
        "Share of the loss increase under zero ablation that the SAE recovers; further up and to the left is better. "
        "Zero ablation is a lenient yardstick: the table has mean ablation too.",
        recovered_figure(merged),
    )


def two_sidedness_plot(merged: MergedResults) -> Iterator[Plot]:
    """Plot two-sidedness of the SAEs that fire on both sides."""
    one_sided = [sae.name for sae in merged.saes if sae.reconstruction and not is_two_sided(sae.reconstruction)]
    left_out = f" Not drawn, as they have one side only: {', '.join(one_sided)}." if one_sided else ""
    yield from _plot(
        "Two-sidedness",
        "How evenly the firings of a latent are shared between its sides: 0 is one side only, 0.5 both alike. A latent "
        f"that fires on both sides need not mean opposites.{left_out}",
        two_sidedness_figure(merged),
    )


def probe_plots(merged: MergedResults) -> Iterator[Plot]:
    """Plot the AUROC of the best latent and of the best pair, and pole coverage."""
    for method, what in ((SINGLE, "best single latent"), (PAIR, "best pair of sides, one per pole")):
        yield from _plot(
            f"AUROC of the {what}",
            f"How well the {what}, chosen on train, tells the poles apart on test texts, with 95 % intervals that "
            "resample groups of texts. Grey are controls (permuted poles, mean and range; an SAE with fresh "
            "weights), the star is logistic regression on the activations. A high AUROC needs no two sides: a latent "
            "that fires for a single pole has it too.",
            auroc_figure(merged, method),
        )
    yield from _plot(
        "Pole coverage",
        "Share of the texts of both poles on which a latent fires, with a different side for each; a non-negative "
        "latent cannot exceed the dashed line at 0.5, but a pair of them can. 95 % intervals resample groups of "
        "texts.",
        coverage_figure(merged),
    )


def methods_plots(merged: MergedResults) -> Iterator[Plot]:
    """Plot the AUROC of every method, by concept."""
    for task in merged.tasks:
        record = task.record
        yield from _plot(
            f"{task.name}: every method",
            f"{record.poles[0]} (A) against {record.poles[1]} (B) on {record.texts[2]:,} test texts of "
            f"{record.test_groups} groups, which the intervals resample. Grey points are controls: as far as they are "
            "from 0.5, the other results may be due to chance or the texts.",
            methods_figure(merged, task) if task.saes else None,
        )


def symmetry_plot(merged: MergedResults) -> Iterator[Plot]:
    """Plot symmetry at matched cost, by concept."""
    yield from _plot(
        "Symmetry",
        "The weaker of the two effects on the log-odds over the stronger, at matched cost: 1 if both are equally "
        "strong, 0 if both push to the same pole. 95 % intervals resample prompts; the table marks what is not at "
        "matched cost. The ratio does not show how large the effects are.",
        symmetry_figure(merged),
    )


def steering_plots(merged: MergedResults, task: MergedTask, sae: str) -> Iterator[Plot]:
    """Plot dose and response, and effect against cost, of one concept and SAE."""
    only, record = merged.only(tasks=[task.name], saes=[sae]), task.steering[sae]
    yield from _plot(
        "Dose and response",
        f"Log-odds between the tokens of the poles after {record.prompts[1]} test prompts, at every strength of "
        f"latent {record.latent} and of directions added with the same norm; grey are random directions, the dotted "
        "line is the unsteered model. Means, without intervals: those at matched cost are in the table.",
        dose_response_figure(only),
    )
    yield from _plot(
        "Effect against cost",
        "Change of the log-odds, up towards B and down towards A, against its cost: the rise of the steered model's "
        "NLL of neutral text, at which strengths are matched. Steeper is better; a cost of a nat or more is a broken "
        "model.",
        effect_cost_figure(only),
    )


def concept_plots(merged: MergedResults) -> Iterator[Plot]:
    """Plot cosines between concepts, and the texts of each in two components."""
    for cosines in merged.concept_cosines:
        yield from _plot(
            "Cosines between concepts",
            "Cosines between the difference-in-means directions, each from pole A to pole B: 0 is a direction of its "
            "own. Two concepts can share a direction because their texts do, and the sign follows from which pole is "
            "called A.",
            cosines_figure(cosines),
        )
    for task in merged.tasks:
        yield from _plot(
            task.name,
            "Activations of the texts in their two directions of largest variance, with its shares. Poles that mix "
            "here may still be told apart along another direction.",
            pca_figure(task),
        )


def _plot(title: str, caption: str, figure: Figure | None) -> Iterator[Plot]:
    if figure is not None:
        yield Plot(title, caption, Markup(inline_svg(figure)))
