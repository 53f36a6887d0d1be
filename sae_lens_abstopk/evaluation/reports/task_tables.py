"""Tables of tasks: texts, AUROC of probes with their controls, accuracy, pole coverage."""

from collections.abc import Mapping, Sequence

from sae_lens_abstopk.evaluation.figures.of_probes import activation_probes
from sae_lens_abstopk.evaluation.probing.method_names import (
    BEST_COVERAGE,
    ON_ACTIVATIONS,
    PAIR,
    PERMUTED,
    SINGLE,
    UNTRAINED,
)
from sae_lens_abstopk.evaluation.reports.report_table import ReportTable, number
from sae_lens_abstopk.evaluation.results.merging import MergedResults, MergedTask
from sae_lens_abstopk.evaluation.results.records import Interval, LatentRecord, PairRecord, ProbeRecord


def tasks_table(merged: MergedResults) -> ReportTable:
    """Make a table with one row per task: poles, source and texts."""
    return ReportTable(
        title="Tasks",
        columns=("task", "pole A", "pole B", "source", "licence", "texts", "test groups", "majority", "sha256"),
        rows=tuple(
            (
                task.name,
                *task.record.poles,
                task.record.source,
                task.record.licence,
                " / ".join(f"{count:,}" for count in task.record.texts),
                str(task.record.test_groups),
                number(task.record.majority),
                task.record.digest[:12],
            )
            for task in merged.tasks
        ),
        note="texts: in train, val and test, which share no group (template or document). majority: accuracy of always "
        f"naming the larger pole of test. sha256: of the texts.{''.join(map(_fallbacks, merged.tasks))}",
        labels=5,
    )


def _fallbacks(task: MergedTask) -> str:
    """Describe texts that could not be read as intended."""
    said = {
        "truncated": "cut",
        "unfiltered": "without a token that is kept",
        "marked_left_out": "left out with their marked token",
    }
    found = [f"{n:,} {said[why]}" for why, n in task.record.fallbacks.items() if n and why in said]
    return f" Texts of {task.name}: {', '.join(found)}." if found else ""


def codes_table(merged: MergedResults) -> ReportTable:
    """Make a table of the AUROC of probes on codes, by task and SAE."""
    methods = _methods(merged)
    controls = [name for name in (SINGLE + PERMUTED, SINGLE + UNTRAINED) if name in methods]
    columns = [*_shown(methods), *controls]
    return ReportTable(
        title="Probes on codes: AUROC on test",
        columns=("task", "SAE", *columns),
        rows=tuple(
            (task.name, sae, *(_auroc(found.probes, name) for name in columns))
            for task in merged.tasks
            for sae, found in task.saes.items()
        ),
        note="With 95 % bootstrap intervals that resample groups of texts. Latents are chosen on train, read "
        "positions on val. Controls: the same search with permuted poles (mean, and in round brackets the range of "
        "five), and on an SAE with fresh weights.",
        labels=2,
    )


def activations_table(merged: MergedResults) -> ReportTable:
    """Make a table of the AUROC of probes on activations, by task: every SAE has the same."""
    columns = [name + ending for ending in ("", PERMUTED) for name in ON_ACTIVATIONS]
    rows = [
        (label, *(_auroc(probes, name) for name in columns))
        for task in merged.tasks
        for label, probes in activation_probes(task).items()
    ]
    return ReportTable(
        title="Probes on activations: AUROC on test",
        columns=("task", *columns),
        rows=tuple(row for row in rows if any(cell != "-" for cell in row[1:])),
        note="What the activations hold whatever the SAE; the same texts, splits and controls.",
    )


def accuracy_table(merged: MergedResults) -> ReportTable:
    """Make a table of the accuracy of probes, by task and SAE."""
    shown = [*_shown(_methods(merged)), *ON_ACTIVATIONS]
    rows = (
        (task.name, sae, *(_accuracy(found.probes, name) for name in shown))
        for task in merged.tasks
        for sae, found in task.saes.items()
    )
    return ReportTable(
        title="Probes: accuracy on test",
        columns=("task", "SAE", *shown),
        rows=tuple(row for row in rows if any(cell != "-" for cell in row[2:])),
        note="Each at the threshold on its score that is right most often on train; to be compared with the majority "
        "of the task.",
        labels=2,
    )


def coverage_table(merged: MergedResults) -> ReportTable:
    """Make a table of pole coverage, by task and SAE."""
    controls = [ending.removeprefix(", ") for ending in (PERMUTED, UNTRAINED)]
    of_controls = [f"{BEST_COVERAGE}, {control}" for control in controls]
    return ReportTable(
        title="Pole coverage on test",
        columns=("task", "SAE", SINGLE, BEST_COVERAGE, PAIR, *of_controls, "latents"),
        rows=tuple(
            (
                task.name,
                sae,
                str(found.latent.coverage),
                str(found.best_coverage.coverage),
                str(found.pair.coverage),
                *(
                    _interval(found.coverage_controls[control], permuted=PERMUTED.endswith(control))
                    if control in found.coverage_controls
                    else "-"
                    for control in controls
                ),
                f"{_signed(found.latent)}; {_signed(found.best_coverage)}; {_sides(found.pair)}",
            )
            for task in merged.tasks
            for sae, found in task.saes.items()
        ),
        note="Half of the share of A texts on which one side fires plus half of the share of B texts on which the "
        "other does, with 95 % intervals: a non-negative latent cannot exceed 0.5, a pair of them can. All are "
        "chosen on train. Controls as for the probes, permuted poles with their range: signed latents with fresh "
        "weights can exceed 0.5 too, where a concept is easy. latents: in this order, with the side that goes with "
        "pole B and the share of tokens of plain text on which it fires; of the pair A's side, then B's. A latent "
        "that covers both poles often fires on much of any text.",
        labels=2,
    )


def _shown(methods: Sequence[str]) -> list[str]:
    """Select the methods on codes for tables: of the sparse ones only the largest k; plots have all."""
    sparse = [name for name in methods if name.endswith("-sparse")]
    return [name for name in (SINGLE, PAIR, *sparse[-1:]) if name in methods]


def _accuracy(probes: Mapping[str, ProbeRecord], name: str) -> str:
    found = probes[name].accuracy if name in probes else None
    return "-" if found is None else str(found)


def _methods(merged: MergedResults) -> list[str]:
    return list(dict.fromkeys(name for task in merged.tasks for sae in task.saes.values() for name in sae.probes))


def _auroc(probes: Mapping[str, ProbeRecord], name: str) -> str:
    return _interval(probes[name].auroc, permuted=name.endswith(PERMUTED)) if name in probes else "-"


def _interval(found: Interval, *, permuted: bool) -> str:
    """Format an interval, or the mean and range of permuted poles."""
    return found.as_range() if permuted else str(found)


def _signed(found: LatentRecord) -> str:
    density = "" if found.density is None else f" ({found.density:.2g})"
    return f"{'+' if found.orientation > 0 else '-'}{found.latent}{density}"


def _sides(found: PairRecord) -> str:
    return " ".join(
        f"{'+' if sign > 0 else '-'}{latent}"
        for latent, sign in ((found.latent_a, found.sign_a), (found.latent_b, found.sign_b))
    )
