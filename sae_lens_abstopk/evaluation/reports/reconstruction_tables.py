"""Tables of SAEs: reconstruction, variants over seeds, decoder geometry, stability."""

from collections.abc import Callable, Sequence
from statistics import fmean

from sae_lens_abstopk.evaluation.probing.method_names import SINGLE
from sae_lens_abstopk.evaluation.reports.report_table import ReportTable, either, mean_and_range, number
from sae_lens_abstopk.evaluation.results.fit_record import unequal_l0
from sae_lens_abstopk.evaluation.results.merging import MergedResults, MergedSAE
from sae_lens_abstopk.evaluation.results.records import Interval, SAETaskRecord

LOSS_TOKENS = 50_000
"""Least number of predicted tokens for a quotable Loss Recovered."""


def reconstruction_table(merged: MergedResults) -> ReportTable:
    """Make a table with one row per SAE."""
    measured = merged.reconstructed
    facts = {
        "model": {sae.name: sae.model for sae in merged.saes},
        "hook": {sae.name: sae.hook for sae in merged.saes},
        "text": {sae.name: sae.measured_on for sae in merged.saes},
        "training tokens": {sae.name: _trained_on(sae) for sae, _ in measured},
    }
    differing = {fact: of_saes for fact, of_saes in facts.items() if len(set(of_saes.values())) > 1}
    rows = []
    for sae, found in measured:
        loss, two_sided, dead = found.loss, found.two_sidedness > 0, sae.record.dead_latents
        rows.append(
            {"SAE": sae.name, "saved as": sae.record.architecture}
            | {fact: of_saes[sae.name] for fact, of_saes in differing.items()}
            | {
                "latents": f"{sae.record.d_sae:,}",
                "L0": number(found.l0, 1),
                "FVU": number(found.fvu, 4),
                "FVU, lowest L0": number(found.fvu_at_lowest_l0, 4),
                "nMSE": number(found.nmse, 4),
                "cosine": number(found.cosine),
                "recovered, zero": number(loss and loss.recovered_zero, 4),
                "recovered, mean": number(loss and loss.recovered_mean, 4),
                "KL": number(loss and loss.kl),
                "dead latents": "-" if dead is None else f"{dead / sae.record.d_sae:.1%}",
                "did not fire": f"{found.dead_latents / sae.record.d_sae:.1%}",
                "dead poles": f"{found.dead_poles / max(found.live_latents, 1):.0%}" if two_sided else "-",
                "two-sidedness": number(found.two_sidedness if two_sided else None),
            }
        )
    predicted = [found.loss.tokens for _, found in measured if found.loss]
    too_few = min(predicted, default=0) < LOSS_TOKENS
    few = f", fewer than the {LOSS_TOKENS:,} needed for a quotable number" if too_few else ""
    return ReportTable(
        "By SAE",
        rows,
        f"On {either(found.tokens for _, found in measured)} kept {merged.unit}.",
        warning=unequal_l0({sae.name: found.l0 for sae, found in measured}),
        labels=2,
        explained={
            "lowest L0": "FVU, lowest L0: with as many codes a row as the SAE with the fewest, those of largest "
            "magnitude over all rows; SAEs are compared by it.",
            "recovered": f"recovered: Loss Recovered against zero and mean ablation, over {either(predicted)} "
            f"predicted tokens{few}.",
            "KL": "KL: nats a predicted token.",
            "dead latents": f"dead latents: did not fire on the last training {merged.unit} "
            f"({_dead_latents_tokens([sae for sae, _ in measured])}).",
            "did not fire": f"did not fire: on the kept {merged.unit}, on either side; on more there are fewer.",
            "dead poles": "dead poles: share of the live latents whose weaker side holds under 1 % of their firings.",
            "two-sidedness": "two-sidedness: mean of min(p+, p-) / (p+ + p-), at most 0.5; to fire on both sides is "
            "not to mean opposites. An SAE that fires on one side only has neither.",
        },
    )


def _dead_latents_tokens(saes: Sequence[MergedSAE]) -> str:
    """Return the number of training tokens behind the dead latents, with the SAEs' names if they differ."""
    names: dict[int, list[str]] = {}
    for sae in saes:
        if sae.record.dead_latents_tokens is not None:
            names.setdefault(sae.record.dead_latents_tokens, []).append(sae.name)
    if len(names) == 1:
        return f"{next(iter(names)):,}"
    return "; ".join(f"{', '.join(of)}: {n:,}" for n, of in sorted(names.items()))


def _trained_on(sae: MergedSAE) -> str:
    """Return the training tokens; metadata of other projects may not have a number."""
    n = sae.record.training.get("training_tokens")
    return f"{n:,}" if isinstance(n, int) else "unknown" if n is None else str(n)


def variants_table(merged: MergedResults) -> ReportTable:
    """Make a table of mean and range over the SAEs of each variant, if one has several."""
    shared = [task.saes for task in merged.tasks if task.saes.keys() >= set(merged.names)]

    def over_tasks(sae: MergedSAE, measured: Callable[[SAETaskRecord], Interval | None]) -> float | None:
        found = [measured(of_saes[sae.name]) for of_saes in shared]
        known = [each.value for each in found if each is not None and each.value is not None]
        return fmean(known) if known else None

    def auroc(found: SAETaskRecord) -> Interval | None:
        return found.probes[SINGLE].auroc if SINGLE in found.probes else None

    def row(variant: str, saes: Sequence[MergedSAE]) -> dict[str, str]:
        found = [sae.reconstruction for sae in saes if sae.reconstruction]
        losses = [each.loss for each in found if each.loss]
        return {
            "variant": variant,
            "SAEs": str(len(saes)),
            "L0": mean_and_range([each.l0 for each in found], 1),
            "FVU": mean_and_range([each.fvu for each in found], 4),
            "FVU, lowest L0": mean_and_range([each.fvu_at_lowest_l0 for each in found], 4),
            "recovered, zero": mean_and_range([loss.recovered_zero for loss in losses], 4),
            "recovered, mean": mean_and_range([loss.recovered_mean for loss in losses], 4),
            "two-sidedness": mean_and_range([each.two_sidedness or None for each in found]),
            "AUROC, single latent": mean_and_range([over_tasks(sae, auroc) for sae in saes]),
            "pole coverage": mean_and_range([over_tasks(sae, lambda found: found.latent.coverage) for sae in saes]),
        }

    variants = {variant: [sae for sae in merged.saes if sae.variant == variant] for variant in merged.variants}
    found_l0 = {name: [sae.reconstruction.l0 for sae in of if sae.reconstruction] for name, of in variants.items()}
    l0s = {name: fmean(l0) for name, l0 in found_l0.items() if l0}
    several = any(len(saes) > 1 for saes in variants.values())
    return ReportTable(
        "By variant",
        [row(variant, saes) for variant, saes in variants.items()] if several else [],
        "Mean over the SAEs of a variant, and in brackets the smallest and the largest: with a few seeds no "
        "interval is honest.",
        warning=unequal_l0(l0s),
        explained={
            "AUROC": f"AUROC of the best single latent and its pole coverage are means over the {len(shared)} tasks "
            "that every SAE here was probed on."
        },
    )


def geometry_table(merged: MergedResults) -> ReportTable:
    """Make a table with one row per SAE: antipodal pairs, decoder norms, firing densities."""
    measured = [(sae, sae.geometry) for sae in merged.saes if sae.geometry]
    rows = []
    for sae, found in measured:
        density = sae.reconstruction.density_quantiles if sae.reconstruction else {}
        medians = {pole: f"{quantiles[2]:.2%}" for pole, quantiles in density.items()}
        rows.append(
            {
                "SAE": sae.name,
                "antipodal pairs": f"{found.antipodal_pairs:,}",
                "latents in them": f"{found.latents_in_antipodal_pairs / sae.record.d_sae:.1%}",
                "norm, 5 %": number(found.decoder_norm_quantiles[0]),
                "norm, median": number(found.decoder_norm_quantiles[2]),
                "norm, 95 %": number(found.decoder_norm_quantiles[4]),
                "density +, median": medians.get("positive", "-"),
                "density -, median": medians.get("negative", "-"),
            }
        )
    thresholds = either((found.antipodal_threshold for _, found in measured), "g")
    return ReportTable(
        "Geometry",
        rows,
        f"antipodal pairs: two decoder rows with a cosine under {thresholds}, as a dictionary of one-sided latents "
        "needs for an axis. norm: of decoder rows.",
        explained={
            "density": f"density: share of the {merged.unit} on which the positive or the negative side of the "
            "median latent fires."
        },
    )


def stability_table(merged: MergedResults) -> ReportTable:
    """Make a table with one row per pair of seeds."""
    rows: list[dict[str, str]] = []
    for pair in merged.stability:
        row = {
            "SAE": pair.first,
            "other seed": pair.second,
            "mean cosine": number(pair.mean_cosine),
            "above 0.7": f"{pair.share_above_0_7:.1%}",
            "above 0.9": f"{pair.share_above_0_9:.1%}",
        }
        rows += [row] if row not in rows else []  # several results may measure one pair
    return ReportTable(
        "Stability across seeds",
        rows,
        "Decoder rows matched one to one, dead ones included; of signed SAEs by absolute cosine, as turning a "
        "latent around changes nothing.",
        labels=2,
    )


OF_RECONSTRUCTION = (reconstruction_table, variants_table)
OF_SIDES = (geometry_table, stability_table)
