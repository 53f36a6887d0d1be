"""Figures of SAEs and of concepts: reconstruction against L0, two-sidedness; cosines and texts of concepts."""

from collections.abc import Callable, Mapping
from statistics import fmean

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure

from sae_lens_abstopk.evaluation.figures.style import GREY, POLE_COLOURS, legend_below, marks, panel
from sae_lens_abstopk.evaluation.results.merging import MergedResults, MergedTask
from sae_lens_abstopk.evaluation.results.records import ReconstructionRecord


def fvu_figure(merged: MergedResults) -> Figure | None:
    """Draw the share of variance unexplained against L0."""
    return _against_l0(merged, "FVU", lambda found: found.fvu)


def recovered_figure(merged: MergedResults) -> Figure | None:
    """Draw Loss Recovered (zero ablation) against L0."""
    return _against_l0(
        merged, "Loss Recovered, zero ablation", lambda found: found.loss.recovered_zero if found.loss else None
    )


def _against_l0(
    merged: MergedResults, name: str, value: Callable[[ReconstructionRecord], float | None]
) -> Figure | None:
    """Draw one point per SAE; grey lines join the means of a variant at several k."""
    style = marks(merged)
    figure, axes = panel()
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for sae, found in merged.reconstructed:
        measured = value(found)
        if measured is None or measured != measured or found.l0 != found.l0:
            continue
        mark = style[sae.name]
        # open, so that equal points all show
        axes.plot(
            [found.l0],
            [measured],
            mark.marker,
            color=mark.colour,
            markerfacecolor="none",
            markersize=5,
            label=sae.variant,
        )
        curves.setdefault(sae.curve, {}).setdefault(sae.variant, []).append((found.l0, measured))
    if not curves:
        return None
    for variants in curves.values():
        if len(variants) > 1:
            means = sorted(tuple(fmean(each) for each in zip(*seeds, strict=True)) for seeds in variants.values())
            axes.plot(*zip(*means, strict=True), color=GREY, linewidth=0.7, zorder=1)
    axes.set_xlabel("L0")
    axes.set_ylabel(name)
    # from zero, so that a difference in the fifth digit looks like one; Loss Recovered may be negative
    drawn = axes.dataLim
    axes.set_xlim(0, 1.15 * drawn.x1 or 1)
    axes.set_ylim(1.15 * min(0, drawn.y0), 1.15 * max(0, drawn.y1) or 1)
    legend_below(figure)
    return figure


def two_sidedness_figure(merged: MergedResults) -> Figure | None:
    """Draw a histogram of two-sidedness over live latents, for SAEs that fire on both sides."""
    figure, axes = panel()
    style = marks(merged)
    two_sided = [(sae, found) for sae, found in merged.reconstructed if is_two_sided(found)]
    for index, (sae, found) in enumerate(two_sided):
        counts = found.two_sidedness_histogram
        axes.stairs(
            [count / sum(counts) for count in counts],
            [0.5 / len(counts) * edge for edge in range(len(counts) + 1)],
            color=style[sae.name].colour,
            linestyle=("-", "--", "-.", ":")[index % 4],
            linewidth=1.2,
            label=sae.variant,
        )
    axes.set_xlabel("share of firings on the weaker side")
    axes.set_ylabel("share of live latents")
    axes.set_xlim(0, 0.5)
    axes.set_ylim(bottom=0)
    legend_below(figure)
    return figure if two_sided else None


def is_two_sided(found: ReconstructionRecord) -> bool:
    """Return whether any latent fires on both sides."""
    return found.two_sidedness != 0 and sum(found.two_sidedness_histogram) > 0


def cosines_figure(cosines: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw the matrix of cosines between concepts."""
    names = list(cosines)
    values = np.array([[cosines[row].get(column, np.nan) for column in names] for row in names], dtype=float)
    size = max(2.5, 1.1 + 0.24 * len(names))
    figure, axes = panel(height=size)
    # values near 0 fade into the page, light or dark
    middle = to_rgba(GREY, 0.12)
    colours = LinearSegmentedColormap.from_list("poles", [POLE_COLOURS[0], middle, POLE_COLOURS[1]])
    axes.pcolormesh(np.ma.masked_invalid(values), cmap=colours, vmin=-1, vmax=1)
    middles = np.arange(len(names)) + 0.5
    axes.set_xticks(middles, labels=names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(middles, labels=names)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for (row, column), cosine in np.ndenumerate(values):
        if len(names) <= 12 and cosine == cosine:
            axes.text(column + 0.5, row + 0.5, f"{cosine:.2f}", ha="center", va="center", fontsize=6)
    return figure


def pca_figure(task: MergedTask) -> Figure | None:
    """Draw the texts of one concept in the first two principal components of the activations."""
    pca = task.record.pca
    if pca is None or not pca.coordinates:
        return None
    figure, axes = panel()
    coordinates, labels = np.array(pca.coordinates), np.array(pca.labels)
    for pole, name in enumerate(task.record.poles):
        x, y = coordinates[labels == pole].T
        face = POLE_COLOURS[pole] if pole == 0 else "none"
        axes.plot(
            x,
            y,
            "oD"[pole],
            color=POLE_COLOURS[pole],
            markerfacecolor=face,
            markersize=3,
            label=f"{name} ({'AB'[pole]})",
        )
    first, second = (f"component {index + 1} ({share:.0%})" for index, share in enumerate(pca.explained[:2]))
    axes.set_xlabel(first)
    axes.set_ylabel(second)
    legend_below(figure)
    return figure
