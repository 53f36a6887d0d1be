"""Plots about SAEs by themselves: reconstruction against sparsity, and two-sidedness."""

import html
from collections.abc import Callable
from statistics import fmean

from sae_lens_abstopk.evaluation.reports.merged_results import MergedResults, MergedSAE
from sae_lens_abstopk.evaluation.reports.plot_style import GREY, Plot, figure, looks, whole_label
from sae_lens_abstopk.evaluation.results.schema import ReconstructionRecord


def reconstruction_plots(merged: MergedResults) -> list[Plot]:
    """FVU and Loss Recovered against L0."""
    found = [
        _against_l0(
            merged,
            "FVU against L0",
            "FVU",
            lambda record: record.fvu,
            "Share of the variance that the reconstruction does not explain, against the number of active latents; further "
            "down and to the left is better. Compare at equal L0 and equal training only. Grey lines join the means of a variant "
            "at several k.",
        ),
        _against_l0(
            merged,
            "Loss Recovered against L0",
            "Loss Recovered, zero ablation",
            lambda record: record.loss.recovered_zero if record.loss else None,
            "Share of the loss increase under zero ablation that the SAE recovers; further up and to the left is better. "
            "Zero ablation is a lenient yardstick: the table has mean ablation too.",
        ),
    ]
    return [plot for plot in found if plot is not None]


def two_sidedness_plot(merged: MergedResults) -> Plot | None:
    """Histogram over live latents, of the SAEs that have any firing on both sides."""
    style = looks(merged)
    drawn = figure(height=320, x="min(p+, p-) / (p+ + p-)", y="share of live latents")
    one_sided = []
    for sae in merged.saes:
        if sae.reconstruction is None:
            continue
        counts = sae.reconstruction.two_sidedness_histogram
        if sae.reconstruction.two_sidedness == 0 or sum(counts) == 0:
            one_sided.append(sae.name)
            continue
        width = 0.5 / len(counts)
        drawn.add_scatter(
            x=[width * (index + 0.5) for index in range(len(counts))],
            y=[count / sum(counts) for count in counts],
            mode="lines+markers",
            line={"color": style[sae.name].colour, "shape": "hvh"},
            marker={"symbol": style[sae.name].symbol},
            name=whole_label(sae.name),
            showlegend=True,
        )
    if not drawn.data:
        return None
    drawn.update_yaxes(rangemode="tozero")
    left_out = f" Not drawn, as they have one side only: {', '.join(one_sided)}." if one_sided else ""
    return Plot(
        "Two-sidedness",
        "How evenly the firings of a latent are shared between its sides: 0 is one side only, 0.5 both alike. It says that "
        f"a latent fires on both sides, not that the sides mean opposites.{left_out}",
        drawn,
    )


def _against_l0(
    merged: MergedResults,
    title: str,
    y: str,
    value: Callable[[ReconstructionRecord], float | None],
    caption: str,
) -> Plot | None:
    style = looks(merged)
    drawn = figure(height=340, x="L0", y=y)
    curves: dict[str, dict[str, list[tuple[MergedSAE, float, float]]]] = {}
    for sae in merged.saes:
        measured = None if sae.reconstruction is None else value(sae.reconstruction)
        if sae.reconstruction is not None and measured is not None and measured == measured:
            of_curve = curves.setdefault(sae.curve, {})
            of_curve.setdefault(sae.variant, []).append((sae, sae.reconstruction.l0, measured))
    for variants in curves.values():
        if len(variants) > 1:
            means = sorted((fmean(p[1] for p in seeds), fmean(p[2] for p in seeds)) for seeds in variants.values())
            drawn.add_scatter(
                x=[l0 for l0, _ in means],
                y=[measured for _, measured in means],
                mode="lines",
                line={"color": GREY, "width": 1},
                hoverinfo="skip",
                showlegend=False,
            )
        for variant, points in variants.items():
            drawn.add_scatter(
                x=[l0 for _, l0, _ in points],
                y=[measured for _, _, measured in points],
                mode="markers",
                marker={
                    "color": style[points[0][0].name].colour,
                    "symbol": [style[sae.name].symbol for sae, _, _ in points],
                    "size": 11,
                },
                name=whole_label(variant),
                text=[f"{html.escape(sae.name)}: L0 {l0:.1f}, {y} {measured:.4f}" for sae, l0, measured in points],
                hoverinfo="text",
                showlegend=True,
            )
    return Plot(title, caption, drawn) if curves else None
