"""Tables of tasks: texts, AUROC of probes with their controls, accuracy, pole coverage."""

from collections.abc import Iterator, Mapping

from sae_lens_abstopk.evaluation.figures.intervals import activation_probes
from sae_lens_abstopk.evaluation.probing.method_names import (
    BEST_COVERAGE,
    ON_ACTIVATIONS,
    PAIR,
    PERMUTED,
    SINGLE,
    UNTRAINED,
)
from sae_lens_abstopk.evaluation.reports.report_table import WITHOUT_INTERVAL, ReportTable, number
from sae_lens_abstopk.evaluation.results.merging import MergedResults, MergedTask
from sae_lens_abstopk.evaluation.results.records import LatentRecord, ProbeRecord, SAETaskRecord

FALLBACKS = {
    "truncated": "cut",
    "unfiltered": "without a token that is kept",
    "marked_left_out": "left out with their marked token",
}
"""Texts that could not be read as intended, in words."""

RESAMPLED = {"[": "[ ]: 95 % bootstrap intervals that resample groups of texts."} | WITHOUT_INTERVAL


def tasks_table(merged: MergedResults) -> ReportTable:
    """Make a table with one row per task: poles, source and texts."""
    rows = [
        {
            "task": task.name,
            "pole A": task.record.poles[0],
            "pole B": task.record.poles[1],
            "source": task.record.source,
            "licence": task.record.licence or "-",
            "texts": " / ".join(f"{count:,}" for count in task.record.texts),
            "test groups": str(task.record.test_groups),
            "majority": number(task.record.majority),
            "sha256": task.record.digest[:12],
        }
        for task in merged.tasks
    ]
    return ReportTable(
        "Tasks",
        rows,
        "texts: in train, val and test, which share no group (template or document). majority: accuracy of always "
        f"naming the larger pole of test. sha256: of the texts.{''.join(map(_fallbacks, merged.tasks))}",
        labels=5,
    )


def _fallbacks(task: MergedTask) -> str:
    found = [f"{n:,} {FALLBACKS[why]}" for why, n in task.record.fallbacks.items() if n and why in FALLBACKS]
    return f" Texts of {task.name}: {', '.join(found)}." if found else ""


def codes_table(merged: MergedResults) -> ReportTable:
    """Make a table of the AUROC of probes on codes, by task and SAE."""
    columns = _on_codes(merged, SINGLE + PERMUTED, SINGLE + UNTRAINED)
    rows = [labels | {name: _auroc(found.probes, name) for name in columns} for labels, found in _rows(merged)]
    return ReportTable(
        "Probes on codes: AUROC on test",
        rows,
        "Latents are chosen on train, read positions on val.",
        labels=2,
        explained=RESAMPLED
        | {
            PERMUTED: "permuted: the same search with permuted poles (mean, and in round brackets the range of five).",
            UNTRAINED: "untrained SAE: the same search on an SAE with fresh weights.",
        },
    )


def activations_table(merged: MergedResults) -> ReportTable:
    """Make a table of the AUROC of probes on activations, by task: every SAE has the same."""
    columns = [name + ending for ending in ("", PERMUTED) for name in ON_ACTIVATIONS]
    rows = [
        {"task": label} | {name: _auroc(probes, name) for name in columns}
        for task in merged.tasks
        for label, probes in activation_probes(task).items()
        if probes.keys() & set(columns)
    ]
    return ReportTable(
        "Probes on activations: AUROC on test",
        rows,
        "What the activations hold whatever the SAE, on the same texts and splits.",
        explained=RESAMPLED | {PERMUTED: "permuted: with permuted poles, mean and range of five."},
    )


def accuracy_table(merged: MergedResults) -> ReportTable:
    """Make a table of the accuracy of probes, by task and SAE."""
    shown = [*_on_codes(merged), *ON_ACTIVATIONS]
    rows = []
    for labels, found in _rows(merged):
        known = {name: str(probe.accuracy) for name, probe in found.probes.items() if probe.accuracy is not None}
        if known.keys() & set(shown):
            rows.append(labels | {name: known.get(name, "-") for name in shown})
    return ReportTable(
        "Probes: accuracy on test",
        rows,
        "Each at the threshold on its score that is right most often on train; to be compared with the majority "
        "of the task.",
        labels=2,
        explained=RESAMPLED,
    )


def coverage_table(merged: MergedResults) -> ReportTable:
    """Make a table of pole coverage, by task and SAE."""
    permuted, untrained = (ending.removeprefix(", ") for ending in (PERMUTED, UNTRAINED))
    rows = []
    for labels, found in _rows(merged):
        controls, pair = found.coverage_controls, found.pair
        rows.append(
            labels
            | {
                SINGLE: str(found.latent.coverage),
                BEST_COVERAGE: str(found.best_coverage.coverage),
                PAIR: str(pair.coverage),
                BEST_COVERAGE + PERMUTED: controls[permuted].as_range() if permuted in controls else "-",
                BEST_COVERAGE + UNTRAINED: str(controls.get(untrained, "-")),
                "latents": f"{_latent(found.latent)}; {_latent(found.best_coverage)}; "
                f"{_side(pair.sign_a, pair.latent_a)} {_side(pair.sign_b, pair.latent_b)}",
            }
        )
    return ReportTable(
        "Pole coverage on test",
        rows,
        "Half of the share of A texts on which one side fires plus half of the share of B texts on which the "
        "other does: a non-negative latent cannot exceed 0.5, a pair of them can. All are "
        "chosen on train. latents: in this order, with the side that goes with pole B and the share of "
        f"{'rows' if merged.unit == 'rows' else 'tokens of plain text'} on which it fires; of the pair A's side, then "
        "B's. A latent that covers both poles often fires on much of any text.",
        labels=2,
        explained=RESAMPLED
        | {
            PERMUTED: "permuted: the same search with permuted poles, mean and range of five.",
            UNTRAINED: "untrained SAE: with fresh weights; its signed latents can exceed 0.5 too, where a concept is "
            "easy.",
        },
    )


def _rows(merged: MergedResults) -> Iterator[tuple[dict[str, str], SAETaskRecord]]:
    for task in merged.tasks:
        for sae, found in task.saes.items():
            yield {"task": task.name, "SAE": sae}, found


def _on_codes(merged: MergedResults, *controls: str) -> list[str]:
    """Select the methods on codes for tables, with ``controls``: of the sparse ones only the largest k."""
    methods = list(dict.fromkeys(name for _, found in _rows(merged) for name in found.probes))
    sparse = [name for name in methods if name.endswith("-sparse")]
    return [name for name in (SINGLE, PAIR, *sparse[-1:], *controls) if name in methods]


def _auroc(probes: Mapping[str, ProbeRecord], name: str) -> str:
    if name not in probes:
        return "-"
    found = probes[name].auroc
    return found.as_range() if name.endswith(PERMUTED) else str(found)


def _latent(found: LatentRecord) -> str:
    density = "" if found.density is None else f" ({found.density:.2g})"
    return _side(found.orientation, found.latent) + density


def _side(sign: int, latent: int) -> str:
    return f"{'+' if sign > 0 else '-'}{latent}"


OF_TASKS = (tasks_table, codes_table, activations_table, accuracy_table, coverage_table)
