"""The learning rate of the variants that the study tunes, from a grid at its main place.

    python -m evidence.tune --text corpus.jsonl.gz --work runs/evidence

A rate is judged by whole runs, as latents may die late; the study then finds the run of the rate that was chosen. A point
is the mean FVU of the batches logged in the last tenth of training (every tenth batch is): text that the run has not
seen before, and none that is held out. The rate of config.yaml stays unless another's FVU is lower by over 0.5 %, which is
more than seeds of one variant differ by. Points that `results/tuning.json` has are not trained again.
"""

import itertools
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evidence.arguments import add_jobs, overrides_of, parsed, plain_errors, study_parser
from evidence.fill import fill
from evidence.processes import in_processes
from evidence.record import locked, require_text
from evidence.runs import TUNING, Run, config_of, digest_of, metrics_of, one_thread, read_study, record_of, train_run
from sae_lens_abstopk.config.training_config import TrainingConfig
from sae_lens_abstopk.files import write_whole
from sae_lens_abstopk.provenance import environment

# of FVU: what another rate has to gain
MARGIN = 0.005


class Point(NamedTuple):
    """A run, to be measured."""

    run: Run
    cfg: TrainingConfig


def measure(point: Point) -> dict[str, Any]:
    """Train it, and keep what is wanted of it; one that diverged has no FVU."""
    run, cfg = point
    facts = train_run(cfg)
    means: dict[str, float | None] = {"fvu": None, "l0": None}
    if "diverged" not in facts:
        rows = metrics_of(cfg)
        last = rows[-len(rows) // 10 :]
        means = {key: round(sum(float(row[key]) for row in last) / len(last), 5) for key in means}
    known = {key: facts[key] for key in ("tokens", "dead_latents", "seconds", "commit", "diverged") if key in facts}
    return {"variant": run.variant, **run.place, "lr": cfg.lr, **means, **known}


def rate_grid(variants: Sequence[str], study: Mapping[str, Any], common: list[str], work: Path) -> Iterator[Point]:
    """Every variant at every learning rate, at the main place."""
    for lr, name in itertools.product(study["rates"], variants):
        run = Run(**study["main"], variant=name, seed=0)
        yield Point(run, config_of(run, study, common, work, rates={name: lr}))


def points_of(study: Mapping[str, Any], text_sha256: str) -> list[dict[str, Any]]:
    """The recorded points of the main place, which alone can be compared; of other text than this, they end the command."""
    known = json.loads(TUNING.read_text(encoding="utf-8")) if TUNING.is_file() else {}
    require_text(TUNING, [known.get("text_sha256")], text_sha256)
    return [point for point in known.get("points", []) if study["main"].items() <= point.items()]


def best(points: Sequence[Mapping[str, Any]], rates: Collection[float], usual: float) -> dict[str, float]:
    """The learning rate of each variant that was tried at all ``rates``: ``usual``, unless the least FVU is lower by more than the margin."""
    fvu: dict[str, dict[float, float]] = {}
    for point in points:
        diverged = point["fvu"] is None
        fvu.setdefault(point["variant"], {})[point["lr"]] = math.inf if diverged else point["fvu"]
    chosen = {}
    for variant, tried in fvu.items():
        least = min(tried, key=tried.__getitem__)
        if not tried.keys() >= set(rates) or tried[least] == math.inf:
            continue
        chosen[variant] = usual if tried[least] >= (1 - MARGIN) * tried[usual] else least
    return chosen


def record_point(point: dict[str, Any], study: Mapping[str, Any], text_sha256: str, usual: float) -> None:
    """Put a point into the record, beside those that other commands have put there meanwhile."""
    with locked(TUNING), one_thread():
        same = (point["variant"], point["lr"])
        others = [one for one in points_of(study, text_sha256) if (one["variant"], one["lr"]) != same]
        points = [*others, point]
        record = {
            "command": "python -m evidence.tune",
            "metric": "mean FVU of the batches logged in the last tenth of training, each before its update; seed 0",
            "text_sha256": text_sha256,
            "environment": environment(),
            "points": points,
            "margin": MARGIN,
            "best": best(points, study["rates"], usual),
        }
        write_whole(TUNING, json.dumps(record, indent=1) + "\n")


def main() -> None:
    study = read_study()
    parser = study_parser(__doc__)
    parser.add_argument(
        "--variants", nargs="*", choices=study["variants"], help="these alone, of all that the study has"
    )
    add_jobs(parser)
    args = parsed(parser)
    text, common = digest_of(args.text), overrides_of(args)
    done = {(point["variant"], point["lr"]) for point in points_of(study, text)}
    with plain_errors(parser):
        grid = list(rate_grid(args.variants or study["tuned"], study, common, args.work))
        usual = config_of(grid[0].run, study, common, args.work, rates={}).lr
        left = [point for point in grid if (point.run.variant, point.cfg.lr) not in done]
        fill([point.cfg for point in left if not record_of(point.cfg).is_file()])
        for number, found in enumerate(in_processes(measure, left, args.jobs), 1):
            print(f"[{number}/{len(left)}]", found, flush=True)
            record_point(found, study, text, usual)


if __name__ == "__main__":
    main()
