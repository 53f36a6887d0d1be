"""Figures of concepts in the activations: cosines between their directions, and their texts in two components."""

from collections.abc import Mapping

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure

from sae_lens_abstopk.evaluation.figures.style import GREY, POLE_COLOURS, legend_below, panel
from sae_lens_abstopk.evaluation.results.merging import MergedTask

_MARKERS = ("o", "D")


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
            _MARKERS[pole],
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
