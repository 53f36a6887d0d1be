"""Write the tables and figures of `docs/evidence.md` and `docs/evidence-tables.md`, and a table of the README, from what the study has recorded.

    python -m evidence.report

Reads `results/runs.jsonl`, `tuning.json` and `random_directions.json` beside it; nothing is measured. Runs that are not recorded yet are left out, and
the page says how many there are.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.chart import filled
from evidence.columns import PROBING, RECONSTRUCTION, Line, by_variant
from evidence.concept_tables import behaviour_table, paired_concepts_table, steering_table, task_table
from evidence.figures import draw_coverage, draw_dots, draw_steering, draw_widths
from evidence.random_directions import random_lines, random_table
from evidence.record import RECORD, recorded
from evidence.runs import HERE, read_study, runs_of
from evidence.tables import (
    MAIN_PAIRS,
    fvu_table,
    paired_table,
    price_table,
    recipe_table,
    summary,
    tuning_table,
    variant_table,
    whole_table,
    width_table,
)

PAGE = HERE.parent / "docs" / "evidence.md"
TABLES = HERE.parent / "docs" / "evidence-tables.md"
README = HERE.parent / "README.md"


def parts(lines: Sequence[Line], study: Mapping[str, Any]) -> dict[Path, dict[str, str]]:
    """What stands between the marks of a page, by page and mark."""
    asked = {run.name for run in runs_of(study)}
    count = f"{sum(line['name'] in asked for line in lines)} of the {len(asked)} runs of the study are recorded"
    missing = [f"`{name}`" for name in study["variants"] if name not in {line["variant"] for line in lines}]
    count += f"; none yet for {', '.join(missing)}." if missing else "."
    return {
        PAGE: {
            "fvu": fvu_table(lines, study),
            "pairs": paired_table(lines, study, MAIN_PAIRS),
            "widths": width_table(lines, study),
            "recipes": recipe_table(lines, study),
            "price": price_table(lines, study),
            "probing": variant_table(by_variant(lines, **study["main"]), study, PROBING),
            "differences": paired_concepts_table(lines, random_lines(), study),
            "random": random_table(random_lines()),
            "steering": steering_table(lines),
            "count": count,
        },
        TABLES: {
            "reconstruction": whole_table(lines, study, RECONSTRUCTION),
            "pairs": paired_table(lines, study),
            "probing": whole_table(lines, study, PROBING),
            "tasks": task_table(lines, study),
            "behaviour": behaviour_table(lines),
            "tuning": tuning_table(study),
        },
        README: {"study": summary(lines, study)},
    }


def require_one_text(lines: Sequence[Line]) -> None:
    """End the command where runs are of different text, which no table may mix."""
    runs = Counter(line["training"]["text_sha256"] for line in lines)
    if len(runs) > 1:
        told = ", ".join(f"{n} on {text}" for text, n in runs.items())
        raise SystemExit(
            f"{RECORD} has runs on different text: {told}; finish the study on one, or delete the lines of the others"
        )


def main() -> None:
    study = read_study()
    lines = list(recorded().values())
    require_one_text(lines)
    for page, content in parts(lines, study).items():
        page.write_text(filled(page.read_text(encoding="utf-8"), content), encoding="utf-8")
    draw_widths(lines, study)
    draw_dots(lines, study, ("FVU", "recovered, mean", "two-sided"), "evidence-reconstruction")
    draw_dots(lines, study, ("one latent", "pair", "best coverage"), "evidence-probing")
    draw_coverage(lines, study)
    draw_steering(lines)


if __name__ == "__main__":
    main()
