"""Tables about SAEs by themselves: reconstruction, variants over seeds, decoder geometry, stability."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from sae_lens_abstopk.evaluation.probing.method_names import SINGLE
from sae_lens_abstopk.evaluation.reports.report_table import ReportTable, mean_and_range, number
from sae_lens_abstopk.evaluation.results.merged_results import MergedResults, MergedSAE, MergedTask
from sae_lens_abstopk.evaluation.results.sae_records import LossRecord, ReconstructionRecord

LOSS_TOKENS = 50_000
"""Predicted tokens from which a Loss Recovered may be quoted."""


def reconstruction_table(merged: MergedResults) -> ReportTable:
    """One row an SAE."""
    rows = []
    models, hooks = {sae.model for sae in merged.saes}, {sae.hook for sae in merged.saes}
    texts = {sae.measured_on for sae in merged.saes}
    lengths = {_trained_on(sae) for sae in merged.saes if sae.reconstruction}
    for sae in merged.saes:
        found = sae.reconstruction
        if found is None:
            continue
        loss, two_sided = found.loss, found.two_sidedness > 0
        rows.append(
            (
                sae.name,
                sae.record.architecture,
                sae.model if len(models) > 1 else "-",
                sae.hook if len(hooks) > 1 else "-",
                sae.measured_on if len(texts) > 1 else "-",
                _trained_on(sae) if len(lengths) > 1 else "-",
                f"{sae.record.d_sae:,}",
                number(found.l0, 1),
                number(found.fvu, 4),
                number(found.nmse, 4),
                number(found.cosine),
                number(loss.recovered_zero if loss else None, 4),
                number(loss.recovered_mean if loss else None, 4),
                number(loss.kl if loss else None),
                f"{found.dead_latents / sae.record.d_sae:.1%}",
                f"{found.dead_poles / max(found.live_latents, 1):.0%}" if two_sided else "-",
                number(found.two_sidedness if two_sided else None),
            )
        )
    counts = sorted({sae.reconstruction.tokens for sae in merged.saes if sae.reconstruction})
    predicted = sorted({found.loss.tokens for sae in merged.saes if (found := sae.reconstruction) and found.loss})
    return ReportTable(
        title="By SAE",
        columns=(
            *("SAE", "saved as", "model", "hook", "text", "training tokens", "latents", "L0", "FVU", "nMSE", "cosine"),
            *("recovered, zero", "recovered, mean", "KL", "dead", "dead poles", "two-sidedness"),
        ),
        rows=tuple(rows),
        note=f"On {_counts(counts)} kept tokens. {_loss_note(predicted)}dead: latents that fired on neither side in these "
        "tokens (more would find fewer). dead poles: share of the live latents whose weaker side holds under 1 % of their firings. "
        "two-sidedness: mean of min(p+, p-) / (p+ + p-), at most 0.5; to fire on both sides is not to mean opposites. "
        "Neither is shown of an SAE that fires on one side only.",
        labels=2,
    )


def _loss_note(predicted: Sequence[int]) -> str:
    if not predicted:
        return ""
    few = f", fewer than the {LOSS_TOKENS:,} needed for a quotable number" if predicted[0] < LOSS_TOKENS else ""
    return (
        f"recovered: Loss Recovered against zero and mean ablation, over {_counts(predicted)} predicted tokens{few}. KL: "
        "nats a predicted token. "
    )


def _trained_on(sae: MergedSAE) -> str:
    """Tokens; what the metadata of an SAE from elsewhere hold may be no number."""
    n = sae.record.training.get("training_tokens")
    return f"{n:,}" if isinstance(n, int) else "unknown" if n is None else str(n)


def _counts(counts: Sequence[int]) -> str:
    return " or ".join(f"{count:,}" for count in counts)


def variants_table(merged: MergedResults) -> ReportTable:
    """Mean and range over the SAEs of each variant, where a variant has several."""
    variants: dict[str, list[MergedSAE]] = {}
    for sae in merged.saes:
        variants.setdefault(sae.variant, []).append(sae)
    single, coverage = _means_over_tasks(merged)
    rows = []
    if any(len(saes) > 1 for saes in variants.values()):
        for variant, saes in variants.items():
            rows.append(
                (
                    variant,
                    str(len(saes)),
                    _over(saes, lambda found: found.l0, 1),
                    _over(saes, lambda found: found.fvu, 4),
                    _over_loss(saes, lambda loss: loss.recovered_zero),
                    _over_loss(saes, lambda loss: loss.recovered_mean),
                    _over(saes, lambda found: found.two_sidedness or None),
                    mean_and_range([single.get(sae.name) for sae in saes]),
                    mean_and_range([coverage.get(sae.name) for sae in saes]),
                )
            )
    return ReportTable(
        title="By variant",
        columns=(
            *("variant", "SAEs", "L0", "FVU", "recovered, zero", "recovered, mean", "two-sidedness"),
            *("AUROC, single latent", "pole coverage"),
        ),
        rows=tuple(rows),
        note="Mean over the SAEs of a variant, and in brackets the smallest and the largest: with a few seeds no interval "
        f"is honest. AUROC of the best single latent and its pole coverage are means over the {len(_tasks_of_all(merged))} tasks "
        "that every SAE here was probed on.",
    )


def geometry_table(merged: MergedResults) -> ReportTable:
    """One row an SAE: antipodal pairs, decoder norms, firing densities."""
    rows = []
    for sae in merged.saes:
        found = sae.geometry
        if found is None:
            continue
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
    thresholds = sorted({sae.geometry.antipodal_threshold for sae in merged.saes if sae.geometry})
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
    """One row a pair of seeds."""
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
        note="Decoder rows matched one to one, dead ones included; of signed SAEs by absolute cosine, as turning a latent around changes nothing.",
        labels=2,
    )


def _over(saes: list[MergedSAE], value: Callable[[ReconstructionRecord], float | None], digits: int = 3) -> str:
    return mean_and_range([value(sae.reconstruction) for sae in saes if sae.reconstruction], digits)


def _over_loss(saes: list[MergedSAE], value: Callable[[LossRecord], float]) -> str:
    records = [sae.reconstruction.loss for sae in saes if sae.reconstruction]
    return mean_and_range([value(loss) for loss in records if loss], 4)


def _means_over_tasks(merged: MergedResults) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """AUROC of the single latent and its pole coverage, means over the tasks that all SAEs have, by SAE."""
    single: dict[str, list[float]] = {name: [] for name in merged.names}
    coverage: dict[str, list[float]] = {name: [] for name in merged.names}
    for task in _tasks_of_all(merged):
        for name, found in task.saes.items():
            probe = found.probes.get(SINGLE)
            if probe is not None and probe.auroc.value is not None:
                single[name].append(probe.auroc.value)
            if found.latent.coverage.value is not None:
                coverage[name].append(found.latent.coverage.value)
    return _means(single), _means(coverage)


def _tasks_of_all(merged: MergedResults) -> list[MergedTask]:
    return [task for task in merged.tasks if task.saes.keys() >= set(merged.names)]


def _means(values: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: fmean(found) for name, found in values.items() if found}
