"""A table of a report, and its numbers as text, in any format."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ReportTable:
    """Cells as text, which renderers escape; a report leaves out a table without rows."""

    title: str
    rows: Sequence[dict[str, str]]
    """Cells by column; all rows have the same columns."""
    note: str
    """Meaning and limits of the columns."""
    labels: int = 1
    """Number of leading columns with names; the others have numbers."""

    @property
    def columns(self) -> list[str]:
        return list(self.rows[0]) if self.rows else []

    @property
    def lines(self) -> list[list[str]]:
        """The header, then the cells of each row."""
        return [self.columns, *(list(row.values()) for row in self.rows)]


def number(value: float | None, digits: int = 3) -> str:
    """Format a number with ``digits`` decimals; "-" for None or NaN."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def mean_and_range(values: Sequence[float | None], digits: int = 3) -> str:
    """Format the mean and, of several values, the smallest and the largest."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    if not known:
        return "-"
    mean = f"{sum(known) / len(known):.{digits}f}"
    return mean if len(known) == 1 else f"{mean} ({min(known):.{digits}f} to {max(known):.{digits}f})"
