"""The figure of a retrieval measurement: nDCG@10 over the bytes of a stored document."""

from matplotlib.figure import Figure

from sae_lens_abstopk.embeddings.retrieval_results import RetrievalResults
from sae_lens_abstopk.evaluation.figures.style import GREY, INK, legend_below, mark_of, panel

_MARKERS = {"float32": "*", "int8": "P", "PCA": "x", "codes": "o", "decoded": "D", "mirror": "^"}


def retrieval_figure(results: RetrievalResults) -> Figure:
    """Draw each row with its interval: SAEs by colour, methods by marker, a line through the PCAs."""
    figure, axes = panel()
    colours = {name: mark_of(index).colour for index, name in enumerate(results.saes)}
    for name, colour in colours.items():
        axes.plot([], [], "_", color=colour, markeredgewidth=2, markersize=6, label=name)
    for method in dict.fromkeys(row.method for row in results.rows if row.sae):
        axes.plot([], [], _MARKERS[method], color=GREY, markerfacecolor="none", label=method)
    for row in results.rows:
        colour = GREY if row.method == "PCA" else INK if row.sae is None else colours[row.sae]
        found = row.ndcg_at_10
        assert found.value is not None  # there is at least one query
        ends = [found.value if end is None else end for end in (found.low, found.high)]
        axes.errorbar(
            [row.bytes],
            [found.value],
            yerr=[[max(found.value - ends[0], 0)], [max(ends[1] - found.value, 0)]],
            fmt=_MARKERS[row.method],
            color=colour,
            markerfacecolor="none" if row.sae else colour,
            elinewidth=0.6,
            markeredgewidth=0.8,
            label=None if row.sae else row.method,
        )
    pca = sorted((row.bytes, row.ndcg_at_10.value) for row in results.rows if row.method == "PCA")
    if len(pca) > 1:
        axes.plot(*zip(*pca, strict=True), color=GREY, linewidth=0.7, zorder=1)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("bytes of a stored document")
    axes.set_ylabel("nDCG@10")
    legend_below(figure)
    return figure
