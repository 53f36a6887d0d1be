"""Tables of SAEs: reconstruction, variants over seeds, decoder geometry, stability."""

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

from sae_lens_abstopk.evaluation.probing.method_names import SINGLE
from sae_lens_abstopk.evaluation.reports.report_table import ReportTable, mean_and_range, number
from sae_lens_abstopk.evaluation.results.merging import MergedResults, MergedSAE, MergedTask
from sae_lens_abstopk.evaluation.results.records import ReconstructionRecord

LOSS_TOKENS = 50_000
"""Least number of predicted tokens for a quotable Loss Recovered."""


def reconstruction_table(merged: MergedResults) -> ReportTable:
    """Make a table with one row per SAE."""
    measured = [(sae, sae.reconstruction) for sae in merged.saes if sae.reconstruction]

    def if_they_differ(fact: Callable[[MergedSAE], str], among: Sequence[MergedSAE]) -> Callable[[MergedSAE], str]:
        return fact if len(set(map(fact, among))) > 1 else lambda _: "-"

    model = if_they_differ(lambda sae: sae.model, merged.saes)
    hook = if_they_differ(lambda sae: sae.hook, merged.saes)
    text = if_they_differ(lambda sae: sae.measured_on, merged.saes)
    trained_on = if_they_differ(_trained_on, [sae for sae, _ in measured])

    def row(sae: MergedSAE, found: ReconstructionRecord) -> tuple[str, ...]:
        loss, two_sided = found.loss, found.two_sidedness > 0
        return (
            *(sae.name, sae.record.architecture, model(sae), hook(sae), text(sae), trained_on(sae)),
            f"{sae.record.d_sae:,}",
            number(found.l0, 1),
            *(number(value, 4) for value in (found.fvu, found.nmse)),
            number(found.cosine),
            *(number(value, 4) for value in ((loss.recovered_zero, loss.recovered_mean) if loss else (None, None))),
            number(loss.kl if loss else None),
            f"{found.dead_latents / sae.record.d_sae:.1%}",
            f"{found.dead_poles / max(found.live_latents, 1):.0%}" if two_sided else "-",
            number(found.two_sidedness if two_sided else None),
        )

    return ReportTable(
        title="By SAE",
        columns=(
            *("SAE", "saved as", "model", "hook", "text", "training tokens", "latents", "L0", "FVU", "nMSE", "cosine"),
            *("recovered, zero", "recovered, mean", "KL", "dead", "dead poles", "two-sidedness"),
        ),
        rows=tuple(row(*each) for each in measured),
        note=f"On {_counts(found.tokens for _, found in measured)} kept tokens. {_loss_note(measured)}dead: latents "
        "that fired on neither side in these tokens (more would find fewer). dead poles: share of the live latents "
        "whose weaker side holds under 1 % of their firings. two-sidedness: mean of min(p+, p-) / (p+ + p-), at most "
        "0.5; to fire on both sides is not to mean opposites. Neither is shown of an SAE that fires on one side only.",
        labels=2,
    )


def _loss_note(measured: Sequence[tuple[MergedSAE, ReconstructionRecord]]) -> str:
    predicted = [found.loss.tokens for _, found in measured if found.loss]
    if not predicted:
        return ""
    few = f", fewer than the {LOSS_TOKENS:,} needed for a quotable number" if min(predicted) < LOSS_TOKENS else ""
    return (
        f"recovered: Loss Recovered against zero and mean ablation, over {_counts(predicted)} predicted tokens{few}. "
        "KL: nats a predicted token. "
    )


def _trained_on(sae: MergedSAE) -> str:
    """Return the training tokens; metadata of other projects may not have a number."""
    n = sae.record.training.get("training_tokens")
    return f"{n:,}" if isinstance(n, int) else "unknown" if n is None else str(n)


def _counts(counts: Iterable[int]) -> str:
    return " or ".join(f"{count:,}" for count in sorted(set(counts)))


def variants_table(merged: MergedResults) -> ReportTable:
    """Make a table of mean and range over the SAEs of each variant, if one has several."""
    shared = [task for task in merged.tasks if task.saes.keys() >= set(merged.names)]

    def row(variant: str, saes: Sequence[MergedSAE]) -> tuple[str, ...]:
        found = [sae.reconstruction for sae in saes if sae.reconstruction]
        losses = [each.loss for each in found if each.loss]
        return (
            variant,
            str(len(saes)),
            mean_and_range([each.l0 for each in found], 1),
            mean_and_range([each.fvu for each in found], 4),
            mean_and_range([loss.recovered_zero for loss in losses], 4),
            mean_and_range([loss.recovered_mean for loss in losses], 4),
            mean_and_range([each.two_sidedness or None for each in found]),
            mean_and_range([_mean_auroc(shared, sae.name) for sae in saes]),
            mean_and_range([_mean([task.saes[sae.name].latent.coverage.value for task in shared]) for sae in saes]),
        )

    variants = {variant: [sae for sae in merged.saes if sae.variant == variant] for variant in merged.variants}
    several = any(len(saes) > 1 for saes in variants.values())
    return ReportTable(
        title="By variant",
        columns=(
            *("variant", "SAEs", "L0", "FVU", "recovered, zero", "recovered, mean", "two-sidedness"),
            *("AUROC, single latent", "pole coverage"),
        ),
        rows=tuple(row(variant, saes) for variant, saes in variants.items()) if several else (),
        note="Mean over the SAEs of a variant, and in brackets the smallest and the largest: with a few seeds no "
        f"interval is honest. AUROC of the best single latent and its pole coverage are means over the {len(shared)} "
        "tasks that every SAE here was probed on.",
    )


def geometry_table(merged: MergedResults) -> ReportTable:
    """Make a table with one row per SAE: antipodal pairs, decoder norms, firing densities."""
    measured = [(sae, sae.geometry) for sae in merged.saes if sae.geometry]
    rows = []
    for sae, found in measured:
        density = sae.reconstruction.density_quantiles if sae.reconstruction else {}
        rows.append(
            (
                sae.name,
                f"{found.antipodal_pairs:,}",
                f"{found.latents_in_antipodal_pairs / sae.record.d_sae:.1%}",
                *(number(found.decoder_norm_quantiles[index]) for index in (0, 2, 4)),
                *(f"{density[pole][2]:.2%}" if pole in density else "-" for pole in ("positive", "negative")),
            )
        )
    thresholds = sorted({found.antipodal_threshold for _, found in measured})
    return ReportTable(
        title="Geometry",
        columns=(
            *("SAE", "antipodal pairs", "latents in them", "norm, 5 %", "norm, median", "norm, 95 %"),
            *("density +, median", "density -, median"),
        ),
        rows=tuple(rows),
        note=f"antipodal pairs: two decoder rows with a cosine under {' or '.join(f'{t:g}' for t in thresholds)}, as a "
        "dictionary of one-sided latents needs for an axis. norm: of decoder rows. density: share of the tokens on "
        "which the positive or the negative side of the median latent fires.",
    )


def stability_table(merged: MergedResults) -> ReportTable:
    """Make a table with one row per pair of seeds."""
    pairs = dict.fromkeys(
        (
            pair.first,
            pair.second,
            number(pair.mean_cosine),
            f"{pair.share_above_0_7:.1%}",
            f"{pair.share_above_0_9:.1%}",
        )
        for pair in merged.stability
    )
    return ReportTable(
        title="Stability across seeds",
        columns=("SAE", "other seed", "mean cosine", "above 0.7", "above 0.9"),
        rows=tuple(pairs),
        note="Decoder rows matched one to one, dead ones included; of signed SAEs by absolute cosine, as turning a "
        "latent around changes nothing.",
        labels=2,
    )


def _mean_auroc(tasks: Sequence[MergedTask], sae: str) -> float | None:
    probes = [task.saes[sae].probes.get(SINGLE) for task in tasks]
    return _mean([probe and probe.auroc.value for probe in probes])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
