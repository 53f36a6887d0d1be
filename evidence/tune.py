"""The learning rate of each variant of the study, from a grid at layer 15.

    python -m evidence.tune --text corpus.jsonl.gz --work runs/evidence

A rate is judged by whole runs, as latents may die late; the study then finds the run of the rate that was chosen. A point
is the mean FVU of the last tenth of the training batches: text that the run has not seen before, and none that is held
out. Points that `results/tuning.json` has are not trained again.
"""

import csv
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from os import cpu_count
from pathlib import Path
from typing import Any, NamedTuple

from evidence.arguments import overrides_of, study_parser
from evidence.fill import fill
from evidence.processes import in_processes
from evidence.runs import TUNING, Run, config_of, read_study, record_of, train_run
from sae_lens_abstopk.evaluation.provenance import environment
from sae_lens_abstopk.files import write_whole
from sae_lens_abstopk.training.config import TrainingConfig

GRID = (1e-3, 5e-4, 2e-3)
LAYER, EXPANSION = 15, 8


class Point(NamedTuple):
    """A run, to be measured."""

    run: Run
    cfg: TrainingConfig

    @property
    def key(self) -> tuple[str, int, int, float]:
        """What tells it from others."""
        return (self.run.variant, self.run.expansion, self.run.k, self.cfg.lr)


def measure(point: Point) -> dict[str, Any]:
    """Train it, and keep what is wanted of it."""
    run, cfg = point
    facts = train_run(cfg)
    with (Path(str(cfg.output_path)) / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    last = rows[-len(rows) // 10 :]
    means = {key: round(sum(float(row[key]) for row in last) / len(last), 5) for key in ("fvu", "l0")}
    place = {"variant": run.variant, "expansion": run.expansion, "k": run.k, "lr": cfg.lr}
    return {**place, **means, **{key: facts[key] for key in ("tokens", "dead_latents", "seconds", "commit")}}


def rate_grid(variants: Sequence[str], study: Mapping[str, Any], common: list[str], work: Path) -> Iterator[Point]:
    """Every variant at every learning rate."""
    for lr, name in itertools.product(GRID, variants):
        run = Run(LAYER, EXPANSION, max(study["k"]), name, seed=0)
        yield Point(run, config_of(run, study, common, work, rates={name: lr}))


def best(points: list[dict[str, Any]]) -> dict[str, float]:
    """The learning rate of least FVU of each variant."""
    chosen: dict[str, dict[str, Any]] = {}
    for point in points:
        held = chosen.get(point["variant"])
        if held is None or point["fvu"] < held["fvu"]:
            chosen[point["variant"]] = point
    return {variant: point["lr"] for variant, point in chosen.items()}


def main() -> None:
    parser = study_parser(__doc__)
    parser.add_argument("--only", nargs="*", help="these variants alone")
    parser.add_argument("--jobs", type=int, default=cpu_count(), help="runs at a time, by default one a core")
    args = parser.parse_args()
    study = read_study()
    common = overrides_of(args)
    points = json.loads(TUNING.read_text())["points"] if TUNING.is_file() else []
    done = {tuple(point[key] for key in ("variant", "expansion", "k", "lr")) for point in points}
    grid = rate_grid(args.only or list(study["variants"]), study, common, args.work)
    left = [point for point in grid if point.key not in done]
    fill([point.cfg for point in left if not record_of(point.cfg).is_file()])
    for number, found in enumerate(in_processes(measure, left, args.jobs), 1):
        points.append(found)
        print(f"[{number}/{len(left)}]", found, flush=True)
        TUNING.parent.mkdir(exist_ok=True)
        record = {
            "command": "python -m evidence.tune",
            "metric": "mean FVU of the last tenth of the training batches, each before its update; seed 0",
            "environment": environment(),
            "points": points,
            "best": best(points),
        }
        write_whole(TUNING, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
