"""The report of the study of embeddings: its numbers are those of the record, of any part of it."""

import re
from pathlib import Path
from typing import Any

import pytest

from experiments.embeddings import measured, report

FVU = {"signed": (0.50, 0.48, 0.46), "one-sided": (0.60, 0.58, 0.56), "one-sided 2F": (0.5, 0.5, 0.5)}


def line(seed: int, *, k: int = 8, f_over_d: float = 1.0, selection: str = "vector", of: str = "words") -> Any:
    """A line of the record."""
    stored = [("float32", None, 1536), ("int8", None, 384), ("PCA", None, 17), ("PCA", None, 18)]
    stored += [(method, sae, 18) for sae in FVU for method in ("codes", "decoded")]
    rows = [
        {"method": method, "sae": sae, "bytes": n, "ndcg_at_10": {"value": 0.5 + 0.01 * seed + 0.001 * n / 18}}
        for method, sae, n in stored
    ]
    held_out = {sae: {"fvu": values[seed], "l0": float(k)} for sae, values in FVU.items()}
    place = {"set": of, "selection": selection, "f_over_d": f_over_d, "k": k, "seed": seed}
    sizes = {"model": "small", "n_queries": 10, "n_documents": 2000, "d_in": 384}
    return place | sizes | {"held_out": held_out, "retrieval": {"cosine": rows}}


def test_fvu_is_compared_seed_by_seed_with_the_interval_of_student() -> None:
    lines = [line(seed) for seed in range(3)]
    found = measured.relative(lines, "one-sided")
    ratios = [0.50 / 0.60, 0.48 / 0.58, 0.46 / 0.56]
    mean = sum(ratios) / 3
    deviation = (sum((ratio - mean) ** 2 for ratio in ratios) / 2) ** 0.5
    assert found.mean == pytest.approx(mean - 1)
    assert found.margin == pytest.approx(4.302653 * deviation / 3**0.5)
    assert str(measured.relative(lines[:1], "one-sided")) == "-16.7"


def test_a_part_of_the_record_makes_tables_and_a_figure(tmp_path: Path) -> None:
    partial = [line(1), line(0), line(0, k=16), line(0, of="others", f_over_d=4), line(2, selection="batch")]
    everything = measured.by_place([*partial, line(0) | {"loss": "cosine"}])
    found = measured.main_runs(everything)
    assert [(*place, len(lines)) for place, lines in found.items()] == [
        ("others", 4, 8, "", 1),
        ("words", 1, 8, "", 2),
        ("words", 1, 16, "", 1),
    ]
    table = report.study_tables(found)
    assert "| 1 | 8 (18) | .490&nbsp;.590&nbsp;.500 | -17.0&nbsp;±&nbsp;" in table
    assert "| .506&nbsp;.506&nbsp;.506 | .506 |" in table, "PCA of as many bytes"
    assert "10 queries, 2,000 documents; 2 seeds" in table
    others = report.variant_table(everything)
    assert re.findall(r"^\| `words`, `(\w+)`, 1, 8 \(18\) \| 8.0&nbsp;", others, re.MULTILINE) == ["batch", "cosine"]
    report.draw(found, tmp_path / "figure.svg")
    assert "one-sided 2F, k = 16" in (tmp_path / "figure.svg").read_text()
    assert report.study_tables({}) == "Nothing is recorded yet."


def test_the_page_is_what_the_records_say() -> None:
    text = report.PAGE.read_text(encoding="utf-8")
    assert report.page(report.read_lines(report.RECORD)) == text, "stale: python -m experiments.embeddings.report"
