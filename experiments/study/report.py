"""Write the tables and figures of `docs/evidence.md` and `docs/evidence-tables.md`, a table of the README and the minutes of the FAQ, from what the study has recorded.

    python -m experiments.study.report

Reads `results/runs.jsonl`, `tuning.json` and `random_directions.json` beside it; nothing is measured. Runs that are not recorded yet are left out, and
the page says how many there are.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from experiments.speed.filling import filled, retold
from experiments.speed.tables import span
from experiments.study.columns import PROBES, PROBING, RECONSTRUCTION, Line, by_variant, steered_lines, without_tasks
from experiments.study.concept_tables import (
    behaviour_table,
    dose_table,
    paired_concepts_table,
    steering_table,
    task_table,
)
from experiments.study.figures import draw_coverage, draw_doses, draw_dots, draw_steering, draw_widths
from experiments.study.random_directions import random_lines, random_table
from experiments.study.record import RECORD, differing_tasks, diverged, recorded
from experiments.study.runs import ROOT, chosen_rates, read_study, runs_of
from experiments.study.tables import (
    MAIN_PAIRS,
    PROBED,
    fvu_table,
    is_stale,
    paired_table,
    recipe_table,
    summary,
    tuning_table,
    uneven_tables,
    variant_table,
    whole_table,
    width_table,
)

PAGE = ROOT / "docs" / "evidence.md"
TABLES = ROOT / "docs" / "evidence-tables.md"
README = ROOT / "README.md"
FAQ = ROOT / "docs" / "faq.md"

# sentences of the FAQ, with minutes of training at each {}, by who trained a variant
OURS = "beside other work: {} to {} minutes (median {})"
NOT_OURS = dict.fromkeys(
    ("jumprelu", "gated", "sae_lens_abstopk"),
    "SAELens's own JumpReLU, Gated and AbsTopK take {} to {} minutes (median {})",
) | {"standard": "its ReLU {} to {} (median {})"}


def parts(lines: Sequence[Line], study: Mapping[str, Any]) -> dict[Path, dict[str, str]]:
    """What stands between the marks of a page, by page and mark."""
    left_out = differing_tasks(lines)
    lines, with_uneven = comparable(lines), lines
    controls = [without_tasks(line, left_out) for line in random_lines()]
    main = by_variant(lines, **study["main"])
    return {
        PAGE: {
            "fvu": fvu_table(lines, study),
            "pairs": paired_table(lines, study, MAIN_PAIRS),
            "pairs_nmse": paired_table(lines, study, MAIN_PAIRS, "nMSE"),
            "widths": width_table(lines, study),
            "probing": variant_table({name: main[name] for name in PROBED if name in main}, study, PROBING),
            "differences": paired_concepts_table(lines, controls, study),
            "steering": steering_table(lines, study),
            "count": count(lines, study, left_out),
        },
        TABLES: {
            "reconstruction": whole_table(lines, study, RECONSTRUCTION),
            "pairs": paired_table(lines, study),
            "pairs_nmse": paired_table(lines, study, metric="nMSE"),
            "recipes": recipe_table(lines, study),
            "probing": whole_table(lines, study, PROBING),
            "probes": whole_table(lines, study, PROBES),
            "tasks": task_table(lines, study),
            "uneven": uneven_tables(with_uneven, study, left_out),
            "random": random_table(controls),
            "doses": dose_table(lines, study),
            "behaviour": behaviour_table(lines, study),
            "tuning": tuning_table(),
        },
        README: {"study": summary(lines, study)},
    }


def phrases(lines: Sequence[Line]) -> dict[str, tuple[str, ...]]:
    """Sentences of the FAQ that tell how long runs at 4,608 latents took that nothing stopped, with what stands at each {}."""
    minutes: dict[str, list[float]] = {}
    for line in lines:
        if line["sae"]["d_sae"] == 4608 and not line["training"]["resumed"]:
            minutes.setdefault(NOT_OURS.get(line["variant"], OURS), []).append(line["training"]["seconds"] / 60)
    return {phrase: (*span(found), f"{median(found):.0f}") for phrase, found in minutes.items()}


def pages(lines: Sequence[Line], study: Mapping[str, Any]) -> dict[Path, str]:
    """The pages that tell the record, as they have to read."""
    texts = {page: filled(page.read_text(encoding="utf-8"), content) for page, content in parts(lines, study).items()}
    texts[FAQ] = FAQ.read_text(encoding="utf-8")
    for phrase, values in phrases(lines).items():
        texts[FAQ] = retold(texts[FAQ], phrase, values)
    return texts


def comparable(lines: Sequence[Line]) -> list[Line]:
    """The lines less the tasks that were not measured on the same examples in all of them."""
    left_out = differing_tasks(lines)
    return [without_tasks(line, left_out) for line in lines]


def count(lines: Sequence[Line], study: Mapping[str, Any], left_out: Sequence[str]) -> str:
    """How much of the study is recorded, and what the tables leave out."""
    asked = {run.name for run in runs_of(study)}
    kept = [line for line in lines if line["name"] in asked]
    told = f"{len(kept)} of the {len(asked)} runs of the study are recorded"
    rates = chosen_rates(study)
    if stale := sum(is_stale(line, rates) for line in kept):
        told += f", {stale} of them from before their learning rate was tuned (†)"
    lost = diverged()
    seen = {line["variant"] for line in lines} | {run.variant for run in runs_of(study) if run.name in lost}
    missing = [f"`{name}`" for name in study["variants"] if name not in seen]
    told += f"; none yet for {', '.join(missing)}." if missing else "."
    told += f" {len(steered_lines(kept, study))} of {len(study['steered'])} SAEs have steered."
    if lost:
        told += f" Diverged: {', '.join(f'`{name}` ({how})' for name, how in lost.items())}."
    if left_out:
        named = ", ".join(f"`{name}`" for name in left_out)
        told += (
            f" Not measured on the same examples in every run: {named}; it is in [tables of its "
            "own](evidence-tables.md#what-was-measured-on-two-sets-of-texts) alone."
        )
    return told


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
