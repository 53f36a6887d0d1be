"""Tables of the study as CSV: one row per run, pair of variants or pair of seeds, with all digits of the record."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isnan
from typing import Any

from experiments.study.columns import PROBING, RECONSTRUCTION, Line, by_variant
from experiments.study.tables import PAIRS, excesses

PLACE = ("layer", "expansion", "k", "variant", "seed")
Row = Mapping[str, Any]


def csv_tables(lines: Sequence[Line], comparable: Sequence[Line]) -> dict[str, str]:
    """Return all tables by file name; ``comparable`` are lines whose tasks have the same texts."""
    tables = {"runs": run_rows(comparable), "pairs": pair_rows(lines), "stability": stability_rows(lines)}
    return {f"{name}.csv": as_csv(rows) for name, rows in tables.items()}


def as_csv(rows: Iterable[Row]) -> str:
    """Format rows with the same keys as CSV; NaN and None are empty cells."""
    out, rows = io.StringIO(), list(rows)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(re.sub(r"[\W]+", "_", key) for key in (rows[0] if rows else ()))
    for row in rows:
        cells = (("" if isnan(cell) else f"{cell:.6g}") if isinstance(cell, float) else cell for cell in row.values())
        writer.writerow(cells)
    return out.getvalue()


def _place(line: Line) -> Row:
    return {key: line[key] for key in PLACE}


def run_rows(lines: Iterable[Line]) -> Iterator[Row]:
    """Return each run with its reconstruction, geometry and means over the tasks."""
    columns = {**RECONSTRUCTION, **PROBING}
    del columns["stability"]
    for line in lines:
        numbers = {name: next(iter(of([line])), None) for name, (of, _) in columns.items()}
        yield {**_place(line), "d_sae": line["sae"]["d_sae"], "lr": line["training"]["lr"], **numbers}


def pair_rows(lines: Sequence[Line]) -> Iterator[Row]:
    """Return the relative difference in error of each pair of variants, by place and seed."""
    for place in sorted({(line["layer"], line["expansion"], line["k"]) for line in lines}):
        at = by_variant(lines, **dict(zip(PLACE, place, strict=False)))
        for first, second in ((first, second) for first, seconds in PAIRS.items() for second in seconds):
            for line in at.get(first, []):
                errors = (excesses([line], at.get(second, []), metric) for metric in ("FVU", "nMSE"))
                for fvu, nmse in zip(*errors, strict=True):
                    yield {**_place(line), "against": second, "FVU": fvu, "nMSE": nmse}


def stability_rows(lines: Iterable[Line]) -> Iterator[Row]:
    """Return the mean matched cosine of each pair of seeds."""
    for line in lines:
        for other, cosine in sorted(line["stability"].items()):
            if line["name"] < other:
                yield {**_place(line), "other": other, "mean matched cosine": cosine}
