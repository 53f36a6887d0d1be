"""The table of recorded rates on files of vectors, and of ten billion vectors at these rates."""

import json
from pathlib import Path
from typing import Any

from experiments.pages import markdown_table

FOLDER = Path(__file__).resolve().parents[1] / "speed" / "results"
MANY = 10**10
"""Vectors of the last column."""


def record(name: str) -> dict[str, Any] | None:
    """Return a record of ``experiments/speed``, or None if it is missing."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def rates_table() -> str:
    """Make the table of the records that there are."""
    of_records = {"vectors_io": _of_files, "vectors_step": _of_training, "retrieval_memory": _of_search}
    found = {name: one for name in of_records if (one := record(name)) is not None}
    rows = [row for name, one in found.items() for row in of_records[name](one)]
    return markdown_table(("", "measured", "ten billion vectors"), rows) if rows else "Nothing is recorded yet."


def days(seconds: float) -> str:
    """Format a time."""
    found = seconds / 86_400
    return f"{found:,.0f} days" if found >= 100 else f"{found:.1f} days"


def _of_files(found: dict[str, Any]) -> list[tuple[str, ...]]:
    coding, embedding = found["encoding"], found["embedding"]
    text = f"embed a text of {embedding['words']:.0f} words with {found['model']}"
    rows = [
        (text, "texts", embedding["texts_per_second"]),
        ("encode a vector", "rows", coding["encoded_rows_per_second"]),
        ("decode a code", "rows", coding["decoded_rows_per_second"]),
    ]
    sizes = [("vector in float16", "bytes_per_row_of_vectors"), ("code in Parquet", "bytes_per_row_of_codes")]
    return [
        *((what, f"{rate:,.0f} {unit} a second", days(MANY / rate)) for what, unit, rate in rows),
        *((what, f"{coding[key]:,.0f} bytes", f"{coding[key] * MANY / 1e12:.1f} TB") for what, key in sizes),
        ("memory of encoding", f"{coding['peak_bytes_of_encoding'] / 1e9:.2f} GB", "the same"),
    ]


def _of_training(found: dict[str, Any]) -> list[tuple[str, ...]]:
    steps, million = found["step_seconds"], found["million_vectors_of_768"]
    ours, theirs, saelens = (
        steps[name]["median"] for name in ("abstopk", "sentence-transformers SparseAutoEncoder", "sae_lens topk")
    )
    step = f"{ours:.2f} s; sentence-transformers' {theirs:.2f} s, SAELens's `topk` {saelens:.2f} s"
    return [
        (f"training step of {found['tokens']:,} vectors", step, "trained on a sample"),
        ("one epoch on a million vectors", f"{million['seconds']:.0f} s, {million['peak_gb']:.1f} GB", ""),
    ]


def _of_search(found: dict[str, Any]) -> list[tuple[str, ...]]:
    times = MANY / found["documents"]
    measured = f"{found['queries_per_second']:.0f} queries a second, {found['peak_mib'] / 1024:.1f} GB"
    seconds, terabytes = times / found["queries_per_second"], times * found["peak_mib"] / 2**20
    largest = f"{seconds:,.0f} s a query and {terabytes:.0f} TB, so use an index"
    return [("exact search of a million codes", measured, largest)]
