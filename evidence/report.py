"""Write the tables and figures of `docs/evidence.md`, and a sentence of the README, from what the study has recorded.

    python -m evidence.report

Reads `results/runs.jsonl`, `tuning.json` and `random_directions.json` beside it; nothing is measured. Runs that are not recorded yet are left out, and
the page says how many there are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.chart import filled, replaced
from evidence.concept_tables import behaviour_table, steering_table, task_table
from evidence.figures import draw_coverage, draw_dots, draw_steering, draw_widths
from evidence.random_directions import random_lines, random_table
from evidence.record import recorded
from evidence.runs import HERE, read_study, runs_of
from evidence.tables import (
    PROBING,
    RECONSTRUCTION,
    Line,
    main_table,
    paired_table,
    recipe_table,
    summary,
    tuning_table,
    width_table,
)

PAGE = HERE.parent / "docs" / "evidence.md"
README = HERE.parent / "README.md"


def page(text: str, lines: Sequence[Line], study: Mapping[str, Any]) -> str:
    """The page with its tables brought up to date."""
    asked = {run.name for run in runs_of(study)}
    count = f"{sum(line['name'] in asked for line in lines)} of the {len(asked)} runs of the study are recorded"
    missing = [f"`{name}`" for name in study["variants"] if name not in {line["variant"] for line in lines}]
    count += f"; none yet of {', '.join(missing)}." if missing else "."
    parts = {
        "count": count,
        "main": main_table(lines, study, RECONSTRUCTION),
        "probing": main_table(lines, study, PROBING),
        "pairs": paired_table(lines),
        "recipes": recipe_table(lines, study),
        "widths": width_table(lines, study),
        "random": random_table(random_lines()),
        "tasks": task_table(lines, study),
        "tuning": tuning_table(),
        "steering": steering_table(lines),
        "behaviour": behaviour_table(lines),
    }
    return filled(text, parts)


def main() -> None:
    study = read_study()
    lines = list(recorded().values())
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), lines, study), encoding="utf-8")
    README.write_text(replaced(README.read_text(encoding="utf-8"), "study", summary(lines, study)), encoding="utf-8")
    draw_widths(lines, study)
    draw_dots(lines, study, ("FVU", "recovered, mean", "two-sided"), "evidence-reconstruction")
    draw_dots(lines, study, ("one latent", "pair", "best coverage"), "evidence-probing")
    draw_coverage(lines, study)
    draw_steering(lines)


if __name__ == "__main__":
    main()
