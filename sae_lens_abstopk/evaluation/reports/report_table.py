"""Tables and provenance of a report, independent of the format."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sae_lens_abstopk.evaluation.results.schema import Results


@dataclass(frozen=True)
class ReportTable:
    """Cells as text; renderers escape them."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """Rows; a report leaves out a table without any."""
    note: str
    """Meaning and limits of the columns."""
    labels: int = 1
    """Number of leading columns with names; the others have numbers."""


def number(value: float | None, digits: int = 3) -> str:
    """Format a number with ``digits`` decimals; "-" for None."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def mean_and_range(values: Sequence[float | None], digits: int = 3) -> str:
    """Format the mean and, of several values, the smallest and the largest."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    if not known:
        return "-"
    mean = f"{sum(known) / len(known):.{digits}f}"
    return mean if len(known) == 1 else f"{mean} ({min(known):.{digits}f} to {max(known):.{digits}f})"


def without_empty_columns(table: ReportTable) -> ReportTable:
    """Drop columns without any number."""
    kept = [
        index
        for index in range(len(table.columns))
        if index < table.labels or any(row[index] != "-" for row in table.rows)
    ]
    return replace(
        table,
        columns=tuple(table.columns[index] for index in kept),
        rows=tuple(tuple(row[index] for index in kept) for row in table.rows),
    )


def provenance(document: Results) -> dict[str, str]:
    """Return the origin of the numbers of a result, by heading."""
    tokens = sorted({found.tokens for found in document.reconstruction.values()})
    measured = f"; {' or '.join(f'{count:,}' for count in tokens)} tokens" if tokens else ""
    measured += f" ({document.kept_tokens})" if document.kept_tokens else ""
    return {
        "model": f"{document.model}, {document.hook}",
        "text": f"{document.text}, {document.kept_from_training}{measured}",
        "suite": f"{document.suite}, seed {document.seed}",
        "commit": document.commit or "unknown",
        "command": document.command,
        "environment": ", ".join(f"{name} {version}" for name, version in document.environment.items()),
        "created": document.created,
    }
