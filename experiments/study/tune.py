"""Choose the learning rate of the tuned variants, from a grid at the main layer, width and k.

    python -m experiments.study.tune --text corpus.jsonl.gz --work runs/evidence

A point is a whole run, since latents may die late: the mean FVU of the batches logged in the last tenth of training, on
text that the run has not seen, none of it held out. A variant is tried at the rate of config.yaml and the two beside it
among those of `study.yaml`, and further on while the outermost is best. Another rate is chosen only if its FVU is more
than 0.5 % lower, which exceeds the difference between seeds. Points in `results/tuning.json` are not trained again.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.study.arguments import add_jobs, overrides_of, parsed, plain_errors, study_parser
from experiments.study.fill import fill
from experiments.study.processes import in_processes
from experiments.study.record import locked, require_text_of_record
from experiments.study.runs import (
    TUNING,
    Run,
    config_of,
    digest_of,
    metrics_of,
    one_thread,
    read_study,
    run_file,
    train_run,
)
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.files import write_whole
from sae_lens_abstopk.system.provenance import environment
from sae_lens_abstopk.training.config.training_config import TrainingConfig

# least relative gain in FVU for another rate
MARGIN = 0.005


class Point(NamedTuple):
    """A run at one learning rate."""

    run: Run
    cfg: TrainingConfig


def measure(point: Point) -> dict[str, Any]:
    """Train a run and return its point; a diverged one has no FVU."""
    run, cfg = point
    facts = train_run(cfg)
    means: dict[str, float | None] = {"fvu": None, "l0": None}
    if "diverged" not in facts:
        rows = metrics_of(cfg)
        last = rows[-len(rows) // 10 :]
        means = {key: round(sum(float(row[key]) for row in last) / len(last), 5) for key in means}
    known = {key: facts[key] for key in ("tokens", "dead_latents", "seconds", "commit", "diverged") if key in facts}
    return {"variant": run.variant, **run.place, "lr": cfg.lr, **means, **known}


def point_at(lr: float | None, variant: str, study: Mapping[str, Any], common: list[str], work: Path) -> Point:
    """Return a variant at the main place and this learning rate; None means config.yaml's."""
    run = Run(**study["main"], variant=variant, seed=0)
    return Point(run, config_of(run, study, common, work, rates={variant: lr} if lr else {}))


def points_of(study: Mapping[str, Any], text_sha256: str) -> list[dict[str, Any]]:
    """Return the recorded points of the main place; end the command if they have another text."""
    known = json.loads(TUNING.read_text(encoding="utf-8")) if TUNING.is_file() else {}
    require_text_of_record(TUNING, [known.get("text_sha256")], text_sha256)
    return [point for point in known.get("points", []) if study["main"].items() <= point.items()]


def fvu_by_rate(points: Sequence[Mapping[str, Any]], variant: str) -> dict[float, float]:
    """Return the FVU of a variant at each rate; infinity if it diverged."""
    return {
        point["lr"]: math.inf if point["fvu"] is None else point["fvu"]
        for point in points
        if point["variant"] == variant
    }


def still_to_try(tried: Mapping[float, float], rates: Sequence[float], usual: float) -> list[float]:
    """Return the rates (ascending) that a choice still needs: the usual one, and the neighbours of the best."""
    least = min(tried, key=tried.__getitem__) if usual in tried else usual
    at = rates.index(least)
    return [rate for rate in rates[max(at - 1, 0) : at + 2] if rate not in tried]


def best(points: Sequence[Mapping[str, Any]], rates: Sequence[float], usual: float) -> dict[str, float]:
    """Return the learning rate of each fully tried variant: ``usual``, unless another gains more than the margin."""
    chosen = {}
    for variant in dict.fromkeys(point["variant"] for point in points):
        tried = fvu_by_rate(points, variant)
        least = min(tried, key=tried.__getitem__)
        if not still_to_try(tried, rates, usual) and tried[least] < math.inf:
            chosen[variant] = usual if tried[least] >= (1 - MARGIN) * tried[usual] else least
    return chosen


def record_point(point: dict[str, Any], study: Mapping[str, Any], text_sha256: str, usual: float) -> None:
    """Add a point to the record; other commands may add theirs meanwhile."""
    with locked(TUNING), one_thread():  # environment() records the runs' number of threads
        same = (point["variant"], point["lr"])
        others = [one for one in points_of(study, text_sha256) if (one["variant"], one["lr"]) != same]
        points = [*others, point]
        record = {
            "command": "python -m experiments.study.tune",
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
    parser.add_argument("--variants", nargs="*", choices=study["variants"], help="only these")
    add_jobs(parser)
    args = parsed(parser)
    text, common = digest_of(args.text), overrides_of(args)
    variants, rates = args.variants or study["tuned"], sorted(study["rates"])
    with plain_errors(parser):
        usual = point_at(None, variants[0], study, common, args.work).cfg.lr
        if usual not in rates:
            raise ConfigError(
                f"lr={usual:g} of {study['config']} is not among the rates of study.yaml, {rates}; add it."
            )
        while left := [
            point_at(lr, variant, study, common, args.work)
            for variant in variants
            for lr in still_to_try(fvu_by_rate(points_of(study, text), variant), rates, usual)
        ]:
            fill([point.cfg for point in left if not run_file(point.cfg).is_file()])
            for number, found in enumerate(in_processes(measure, left, args.jobs), 1):
                print(f"[{number}/{len(left)}]", found, flush=True)
                record_point(found, study, text, usual)


if __name__ == "__main__":
    main()
