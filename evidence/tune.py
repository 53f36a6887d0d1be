"""The learning rate of the variants that the study tunes, from a grid at its main place.

    python -m evidence.tune --text corpus.jsonl.gz --work runs/evidence

A rate is judged by whole runs, as latents may die late; the study then finds the run of the rate that was chosen. A point
is the mean FVU of the batches logged in the last tenth of training (every tenth batch is): text that the run has not
seen before, and none that is held out. Points that `results/tuning.json` has of this text are not trained again.
"""

import csv
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from os import cpu_count
from pathlib import Path
from typing import Any, NamedTuple

from evidence.arguments import overrides_of, parsed, study_parser
from evidence.fill import fill
from evidence.processes import in_processes
from evidence.runs import TUNING, Run, config_of, digest_of, read_study, record_of, train_run
from sae_lens_abstopk.config.training_config import TrainingConfig
from sae_lens_abstopk.files import write_whole
from sae_lens_abstopk.provenance import environment


class Point(NamedTuple):
    """A run, to be measured."""

    run: Run
    cfg: TrainingConfig


def measure(point: Point) -> dict[str, Any]:
    """Train it, and keep what is wanted of it."""
    run, cfg = point
    facts = train_run(cfg)
    with (Path(str(cfg.output_path)) / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    last = rows[-len(rows) // 10 :]
    means = {key: round(sum(float(row[key]) for row in last) / len(last), 5) for key in ("fvu", "l0")}
    known = {key: facts[key] for key in ("tokens", "dead_latents", "seconds", "commit")}
    return {"variant": run.variant, **run.place, "lr": cfg.lr, **means, **known}


def rate_grid(variants: Sequence[str], study: Mapping[str, Any], common: list[str], work: Path) -> Iterator[Point]:
    """Every variant at every learning rate, at the main place."""
    for lr, name in itertools.product(study["rates"], variants):
        run = Run(**study["main"], variant=name, seed=0)
        yield Point(run, config_of(run, study, common, work, rates={name: lr}))


def points_of(study: Mapping[str, Any], text_sha256: str) -> list[dict[str, Any]]:
    """The recorded points of this text and the main place, which alone can be compared."""
    known = json.loads(TUNING.read_text(encoding="utf-8")) if TUNING.is_file() else {}
    if known.get("text_sha256") != text_sha256:
        return []
    return [point for point in known["points"] if study["main"].items() <= point.items()]


def best(points: list[dict[str, Any]]) -> dict[str, float]:
    """The learning rate of least FVU of each variant."""
    chosen: dict[str, dict[str, Any]] = {}
    for point in points:
        held = chosen.get(point["variant"])
        if held is None or point["fvu"] < held["fvu"]:
            chosen[point["variant"]] = point
    return {variant: point["lr"] for variant, point in chosen.items()}


def main() -> None:
    study = read_study()
    parser = study_parser(__doc__)
    parser.add_argument(
        "--variants", nargs="*", choices=study["variants"], help="these alone, of all that the study has"
    )
    parser.add_argument("--jobs", type=int, default=cpu_count(), help="runs at a time, by default one a core")
    args = parsed(parser)
    text = digest_of(args.text)
    points = points_of(study, text)
    done = {(point["variant"], point["lr"]) for point in points}
    grid = rate_grid(args.variants or study["tuned"], study, overrides_of(args), args.work)
    left = [point for point in grid if (point.run.variant, point.cfg.lr) not in done]
    fill([point.cfg for point in left if not record_of(point.cfg).is_file()])
    for number, found in enumerate(in_processes(measure, left, args.jobs), 1):
        points.append(found)
        print(f"[{number}/{len(left)}]", found, flush=True)
        TUNING.parent.mkdir(exist_ok=True)
        record = {
            "command": "python -m evidence.tune",
            "metric": "mean FVU of the batches logged in the last tenth of training, each before its update; seed 0",
            "text_sha256": text,
            "environment": environment(),
            "points": points,
            "best": best(points),
        }
        write_whole(TUNING, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
