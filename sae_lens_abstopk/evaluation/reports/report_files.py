"""Write the reports of results files: compact Markdown, one HTML page, and CSV for further analysis."""

import csv
import io
import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from sae_lens_abstopk.evaluation.reports.html_report import html_report
from sae_lens_abstopk.evaluation.reports.report_sections import provenance, report_tables
from sae_lens_abstopk.evaluation.reports.report_table import ReportTable
from sae_lens_abstopk.evaluation.results.merging import MergedResults, MergedSAE, merge_results
from sae_lens_abstopk.system.errors import require_distinct
from sae_lens_abstopk.system.files import write_whole, writing

REPORT_FILENAMES = ("report.md", "report.html", "report.csv")
# characters that could start markup; an underscore only at the edge of a word
_MARKUP = re.compile(r"[\\`*|~]|(?<=\])\(|(?<!\w)_|_(?!\w)")
_TRAINING_COLUMNS = ("lr", "seed", "train_batch_size_tokens", "training_tokens", "training_architecture")


def write_reports(paths: Sequence[Path], folder: Path) -> MergedResults:
    """
    Write ``report.md``, ``report.html`` and ``report.csv`` of one or several results files; return their content.

    Raises:
        ConfigError: a file is not readable as results, two contradict each other (see :func:`~.merging.merge_results`),
            one is given twice, or ``folder`` is not writable. Nothing is written then.
    """
    require_distinct("the results file", (str(path.resolve()) for path in paths))
    merged = merge_results(paths)
    written = [render(merged) for render in (markdown_report, html_report, csv_report)]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in zip(REPORT_FILENAMES, written, strict=True):
            write_whole(folder / name, text)
    return merged


def markdown_report(merged: MergedResults) -> str:
    """Render the tables of one or several results: reconstruction, probes, pole coverage, steering."""
    heads: list[str] = []
    for index, document in enumerate(merged.results, start=1):
        heads += [f"Result {index}:"] if len(merged.results) > 1 else []
        heads.append("\n".join(f"- {name}: {_escaped(value)}" for name, value in provenance(document).items()))
    tables = chain.from_iterable(report_tables(merged).values())
    return "\n\n".join(["# Evaluation", *heads, *map(_table, tables)]) + "\n"


def _table(table: ReportTable) -> str:
    alignment = ["---" if index < table.labels else "---:" for index in range(len(table.columns))]
    header, *rows = ([_escaped(cell) for cell in line] for line in table.lines)
    body = "\n".join(f"| {' | '.join(cells)} |" for cells in (header, alignment, *rows))
    return f"## {_escaped(table.title)}\n\n{body}\n\n{_escaped(table.note)}"


def _escaped(text: str) -> str:
    """Escape untrusted text, so that it cannot become markup, a tag or a new line."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return _MARKUP.sub(r"\\\g<0>", plain)


def csv_report(merged: MergedResults) -> str:
    """Write one row per SAE, with full numbers; cells without a value are empty."""
    rows = list(map(_csv_row, merged.saes))
    written = io.StringIO()
    table = csv.DictWriter(written, list(dict.fromkeys(chain.from_iterable(rows))), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return written.getvalue()


def _csv_row(sae: MergedSAE) -> dict[str, Any]:
    record, found = sae.record, sae.reconstruction
    details = record.training.get("training_architecture_details") or {}
    known = [facts.get(key) for key in ("k", "target_l0") for facts in (record.training, details)]
    row: dict[str, Any] = {"sae": sae.name, "model": sae.model, "hook": sae.hook, "measured_on": sae.measured_on}
    row |= {key: getattr(record, key) for key in ("group", "architecture", "d_in", "d_sae", "weights_sha256")}
    row |= {"k": next((k for k in known if k is not None), None)}
    row |= {key: record.training.get(key) for key in _TRAINING_COLUMNS}
    row |= {key: getattr(record, key) for key in ("dead_latents", "dead_latents_tokens")}
    if found:
        row |= found.model_dump(exclude={"two_sidedness_histogram", "density_quantiles", "loss", "dead_latents"})
        row |= {"did_not_fire": found.dead_latents}  # on `tokens`
        row |= {f"loss_{key}": value for key, value in (found.loss.model_dump() if found.loss else {}).items()}
    if sae.geometry:
        row |= sae.geometry.model_dump(exclude={"decoder_norm_quantiles"})
    return {key: None if value != value else value for key, value in row.items()}
