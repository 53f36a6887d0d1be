"""The learning rate of each variant of the study, and the share of signed latents, from grids at layer 15.

    python -m evidence.tune --text corpus.jsonl.gz --work runs/evidence

Each point is the mean FVU of the last tenth of the training batches of a short run: text that the run has not seen
before, and none that is held out. Points that `results/tuning.json` has are not trained again.
"""

import argparse
import csv
import itertools
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from os import cpu_count
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from rich.console import Console

from evidence.processes import in_processes
from evidence.study import HERE, TUNING, Run, config_of
from sae_lens_abstopk.evaluation.provenance import commit, environment
from sae_lens_abstopk.quickstart_model import quickstart_model
from sae_lens_abstopk.training.config import TrainingConfig
from sae_lens_abstopk.training.runner import train

GRID = (1e-3, 2e-3, 4e-3)
TOKENS, DECAY_STEPS = 1_024_000, 200
LAYER, EXPANSION = 15, 8
SHARE = "signed_share="
SHARES, EXPANSIONS = (0.0, 0.125, 0.25, 0.5, 1.0), (8, 4, 2, 1)


class Point(NamedTuple):
    """A short run, to be measured."""

    run: Run
    cfg: TrainingConfig

    @property
    def key(self) -> tuple[str, int, int, float]:
        """What tells it from others."""
        return (self.run.variant, self.run.expansion, self.run.k, self.cfg.lr)


def point_of(run: Run, lr: float, study: Mapping[str, Any], common: list[str], work: Path) -> Point:
    """A run at one learning rate, on few tokens."""
    changes = [f"training_tokens={TOKENS}", f"lr_decay_steps={DECAY_STEPS}", "checkpoint_freq=0"]
    changes += ["logger.wandb_log_frequency=1", *common]
    return Point(run, config_of(run, study, changes, work, rates={run.variant: lr}))


def measure(point: Point) -> dict[str, Any]:
    """Train it, and keep what is wanted of it."""
    run, cfg = point
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        cfg.output_path = folder
        train(cfg, console=Console(quiet=True))
        with (Path(folder) / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
    last = rows[-len(rows) // 10 :]
    means = {key: round(sum(float(row[key]) for row in last) / len(last), 5) for key in ("fvu", "l0")}
    return {
        "variant": run.variant,
        "expansion": run.expansion,
        "k": run.k,
        "lr": cfg.lr,
        **means,
        "dead_latents": int(rows[-1]["dead_latents"]),
        "seconds": round(time.perf_counter() - start),
    }


def rate_grid(variants: Sequence[str], study: Mapping[str, Any]) -> list[tuple[Run, float]]:
    """Every variant at every learning rate, the likeliest first."""
    rates = (GRID[1], GRID[2], GRID[0])
    return [(Run(LAYER, EXPANSION, max(study["k"]), name, seed=0), lr) for lr in rates for name in variants]


def share_grid(study: Mapping[str, Any]) -> list[tuple[Run, float]]:
    """Every share of signed latents at every width and k."""
    places = itertools.product(study["k"], EXPANSIONS, SHARES)
    return [(Run(LAYER, expansion, k, share_name(share), seed=0), GRID[1]) for k, expansion, share in places]


def share_name(share: float) -> str:
    """What a share of signed latents is called among the points."""
    return f"{SHARE}{share:g}"


def share_options(share: float) -> dict[str, Any]:
    """The variant with this share of signed latents; none at all is stock BatchTopK."""
    return {"architecture": "batch_abstopk", "signed_share": share} if share else {"architecture": "sparse_batchtopk"}


def best(points: list[dict[str, Any]]) -> dict[str, float]:
    """The learning rate of least FVU of each variant."""
    chosen: dict[str, dict[str, Any]] = {}
    for point in points:
        held = chosen.get(point["variant"])
        if held is None or point["fvu"] < held["fvu"]:
            chosen[point["variant"]] = point
    return {variant: point["lr"] for variant, point in chosen.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="corpus, as corpus.py makes it")
    parser.add_argument("--work", type=Path, default=Path("runs/evidence"), help="folder of the activations")
    parser.add_argument("--model", type=Path, help="folder of the model; by default the quickstart's, which is fetched")
    parser.add_argument("--only", nargs="*", help="learning rates of these variants alone")
    parser.add_argument("--shares", action="store_true", help="the shares alone")
    parser.add_argument("--jobs", type=int, default=cpu_count(), help="runs at a time, by default one a core")
    args = parser.parse_args()
    study = yaml.safe_load((HERE / "study.yaml").read_text(encoding="utf-8"))
    common = [f"dataset_path={args.text}", f"model_name={args.model or quickstart_model(print)}"]
    rates, shares = rate_grid(args.only or list(study["variants"]), study), share_grid(study)
    study["variants"] |= {share_name(share): share_options(share) for share in SHARES}
    points = json.loads(TUNING.read_text())["points"] if TUNING.is_file() else []
    done = {tuple(point[key] for key in ("variant", "expansion", "k", "lr")) for point in points}
    wanted = [*([] if args.shares else rates), *([] if args.only else shares)]
    left = [point_of(run, lr, study, common, args.work) for run, lr in wanted]
    left = [point for point in left if point.key not in done]
    # the first may have to fill the activations
    measured = map(measure, left[:1])
    for number, found in enumerate(itertools.chain(measured, in_processes(measure, left[1:], args.jobs)), 1):
        points.append(found)
        print(f"[{number}/{len(left)}]", found, flush=True)
        TUNING.parent.mkdir(exist_ok=True)
        record = {
            "command": "python -m evidence.tune",
            "metric": "mean FVU of the last tenth of the training batches, each before its update; seed 0",
            "tokens": TOKENS,
            "commit": commit(),
            "environment": environment(),
            "points": points,
            "best": best([point for point in points if not point["variant"].startswith(SHARE)]),
        }
        TUNING.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
