"""A table of a report, and its numbers as text, in any format."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

WITHOUT_INTERVAL = {
    "few groups": "few groups: too few for an interval.",
    "no spread": "no spread: all resamples give this number, so that there is no interval.",
}
"""The words of :class:`~.records.Interval` in place of an interval."""


@dataclass(frozen=True)
class ReportTable:
    """Cells as text, which renderers escape; a report leaves out a table without rows."""

    title: str
    rows: Sequence[dict[str, str]]
    """Cells by column; all rows have the same columns."""
    note: str
    """Meaning and limits of the table."""
    labels: int = 1
    """Number of leading columns with names; the others have numbers."""
    explained: Mapping[str, str] = field(default_factory=dict[str, str])
    """Sentences of the note that depend on what is shown, by a part of a heading or of a number's cell."""

    warning: str = ""
    """A reason not to compare the rows; part of the note, and shown where notes are not."""

    @property
    def columns(self) -> list[str]:
        return list(self.rows[0]) if self.rows else []

    def shown(self) -> "ReportTable":
        """Return the table without empty columns; its note explains what is left."""
        numbers = [name for name in self.columns[self.labels :] if any(row[name] != "-" for row in self.rows)]
        texts = {*numbers, *(row[name] for row in self.rows for name in numbers)}
        explained = (note for part, note in self.explained.items() if any(part in text for text in texts))
        notes = [self.note, self.warning, *explained]
        kept = [*self.columns[: self.labels], *numbers]
        rows = [{name: row[name] for name in kept} for row in self.rows]
        return replace(self, rows=rows, note=" ".join(filter(None, notes)), explained={})

    @property
    def lines(self) -> list[list[str]]:
        """The header, then the cells of each row."""
        return [self.columns, *(list(row.values()) for row in self.rows)]


def number(value: float | None, digits: int = 3) -> str:
    """Format a number with ``digits`` decimals; "-" for None or NaN."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def either(values: Iterable[float], form: str = ",") -> str:
    """Join the different values, ascending, in the format ``form``."""
    return " or ".join(f"{value:{form}}" for value in sorted(set(values)))


def mean_and_range(values: Sequence[float | None], digits: int = 3) -> str:
    """Format the mean and, of several values, the smallest and the largest."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    if not known:
        return "-"
    mean = f"{sum(known) / len(known):.{digits}f}"
    return mean if len(known) == 1 else f"{mean} ({min(known):.{digits}f} to {max(known):.{digits}f})"
