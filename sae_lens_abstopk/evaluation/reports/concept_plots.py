"""Plots of concepts in the activations: cosines between their directions, and their texts in two components."""

from collections.abc import Mapping

from sae_lens_abstopk.evaluation.reports.merged_results import MergedTask
from sae_lens_abstopk.evaluation.reports.plot_style import GREY, POLE_COLOURS, Plot, figure, label

_MARKS = ("circle", "diamond-open")


def cosines_plot(cosines: Mapping[str, Mapping[str, float]]) -> Plot:
    """A matrix of cosines between concepts."""
    names = list(cosines)
    values = [[cosines[row].get(column) for column in names] for row in names]
    shown = [[None if value is None or value != value else value for value in row] for row in values]
    drawn = figure(height=130 + 32 * len(names))
    drawn.add_heatmap(
        z=shown,
        x=[label(name) for name in names],
        y=[label(name) for name in names],
        zmin=-1,
        zmax=1,
        # what is near 0 fades into the page, light or dark
        colorscale=[[0, POLE_COLOURS[0]], [0.5, "rgba(134,142,150,0.12)"], [1, POLE_COLOURS[1]]],
        colorbar={"thickness": 10, "outlinewidth": 0, "tickvals": [-1, 0, 1]},
        hovertemplate="%{y} and %{x}: %{z:.2f}<extra></extra>",
        xgap=2,
        ygap=2,
    )
    drawn.update_yaxes(autorange="reversed", showgrid=False)
    drawn.update_xaxes(showgrid=False, tickangle=-45)
    return Plot(
        "Cosines between concepts",
        "Cosines between the difference-in-means directions, each from pole A to pole B: 0 is a direction of its own. Two "
        "concepts can share a direction because their texts do, and the sign follows from which pole is called A.",
        drawn,
    )


def pca_plot(task: MergedTask) -> Plot | None:
    """The texts of one concept in the first two principal components of the activations."""
    pca = task.record.pca
    if pca is None or not pca.coordinates:
        return None
    first, second = (f"component {index + 1} ({share:.0%})" for index, share in enumerate(pca.explained[:2]))
    drawn = figure(height=320, x=first, y=second)
    for pole, name in enumerate(task.record.poles):
        points = [at for at, of in zip(pca.coordinates, pca.labels, strict=True) if of == pole]
        drawn.add_scatter(
            x=[at[0] for at in points],
            y=[at[1] for at in points],
            mode="markers",
            marker={"color": POLE_COLOURS[pole], "symbol": _MARKS[pole], "size": 6},
            opacity=0.9,
            name=f"{label(name)} ({'AB'[pole]})",
            hoverinfo="skip",
            showlegend=True,
        )
    drawn.update_xaxes(zerolinecolor=GREY)
    return Plot(
        task.name,
        "Activations of the texts in their two directions of largest variance, with its shares. Poles that mix here may "
        "still be told apart along another direction.",
        drawn,
    )
