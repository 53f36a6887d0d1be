"""Write the tables and figures of the study from the record into the pages of the documentation.

    python -m experiments.study.report

Reads `results/runs.jsonl`, `tuning.json` and `random_directions.json`. Writes the marked parts of `docs/evidence.md`,
`docs/evidence-tables.md` and `docs/study.md`, `docs/tables/*.csv` and
`docs/pictures`. Runs that are not recorded yet are left out, and `docs/study.md` says how many there are.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.pages import filled
from experiments.study.columns import PROBING, RECONSTRUCTION, Line, by_variant, without_tasks
from experiments.study.concept_tables import (
    behaviour_table,
    difference_table,
    dose_table,
    random_lines,
    random_table,
    steering_table,
    task_table,
)
from experiments.study.csv_tables import csv_tables
from experiments.study.figures import draw_coverage, draw_doses, draw_dots, draw_steering, draw_widths
from experiments.study.record import RECORD, differing_tasks, diverged, recorded
from experiments.study.runs import ROOT, read_study, runs_of
from experiments.study.steered import steered_lines
from experiments.study.tables import (
    criterion_table,
    fvu_table,
    paired_table,
    tuning_table,
    variant_table,
    width_table,
)

PAGE = ROOT / "docs" / "evidence.md"
TABLES = ROOT / "docs" / "evidence-tables.md"
STUDY = ROOT / "docs" / "study.md"
CSV = ROOT / "docs" / "tables"
DOSES_SHOWN = "tense"


def tables(lines: Sequence[Line], study: Mapping[str, Any]) -> dict[Path, dict[str, str]]:
    """Return the tables of each page, by mark."""
    left_out = differing_tasks(lines)
    lines, controls = comparable(lines), [without_tasks(line, left_out) for line in random_lines()]
    main = by_variant(lines, **study["main"])
    return {
        PAGE: {
            "fvu": fvu_table(lines, study),
            "pairs": paired_table(lines, study),
            "widths": width_table(lines, study),
            "differences": difference_table(lines, controls, study),
            "steering": steering_table(lines, study),
        },
        TABLES: {
            "reconstruction": variant_table(main, study, RECONSTRUCTION),
            "criterion": criterion_table(lines, study),
            "probing": variant_table(main, study, PROBING),
            "tasks": task_table(lines, study),
            "untrained": random_table(controls),
            "doses": dose_table(lines, study, DOSES_SHOWN) if steered_lines(lines, study) else "",
            "behaviour": behaviour_table(lines, study),
        },
        STUDY: {"tuning": tuning_table(), "count": count(lines, study, left_out)},
    }


def pages(lines: Sequence[Line], study: Mapping[str, Any]) -> dict[Path, str]:
    """Return every page and CSV table of the record, with current numbers."""
    texts = {page: filled(page.read_text(encoding="utf-8"), content) for page, content in tables(lines, study).items()}
    found = csv_tables(lines, comparable(lines))
    return texts | {CSV / name: text for name, text in found.items()}


def comparable(lines: Sequence[Line]) -> list[Line]:
    """Return the lines without tasks that were not measured on the same texts in all of them."""
    left_out = differing_tasks(lines)
    return [without_tasks(line, left_out) for line in lines]


def count(lines: Sequence[Line], study: Mapping[str, Any], left_out: Sequence[str]) -> str:
    """Describe how much of the study is recorded, and which tasks the means leave out."""
    asked = {run.name for run in runs_of(study)}
    kept = [line for line in lines if line["name"] in asked]
    lost = diverged()
    seen = {line["variant"] for line in lines} | {run.variant for run in runs_of(study) if run.name in lost}
    missing = [f"`{name}`" for name in study["variants"] if name not in seen]
    text = f"{len(kept)} of the {len(asked)} runs of the study are recorded"
    text += f"; none yet for {', '.join(missing)}." if missing else "."
    text += f" {len(steered_lines(kept, study))} of {len(study['steered'])} SAEs have steered."
    if lost:
        text += f" Diverged: {', '.join(f'`{name}` ({how})' for name, how in lost.items())}."
    if left_out:
        named = ", ".join(f"`{name}`" for name in left_out)
        text += f" Not measured on the same texts in every run, and in no mean: {named}."
    return text


def require_one_text(lines: Sequence[Line]) -> None:
    """End the command if the runs were trained on different texts, because tables must not mix them."""
    runs = Counter(line["training"]["text_sha256"] for line in lines)
    if len(runs) > 1:
        counts = ", ".join(f"{n} on {text}" for text, n in runs.items())
        raise SystemExit(
            f"{RECORD} has runs on different texts: {counts}. Finish the study on one, or delete the other lines."
        )


def main() -> None:
    study = read_study()
    lines = list(recorded().values())
    require_one_text(lines)
    CSV.mkdir(exist_ok=True)
    for page, text in pages(lines, study).items():
        page.write_text(text, encoding="utf-8")
    lines = comparable(lines)
    draw_widths(lines, study)
    draw_dots(lines, study, ("FVU", "recovered, mean", "two-sided"), "evidence-reconstruction")
    draw_dots(lines, study, ("one latent", "pair", "best coverage"), "evidence-probing")
    draw_coverage(lines, study)
    draw_steering(lines, study)
    draw_doses(lines, study)


if __name__ == "__main__":
    main()
