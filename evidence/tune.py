"""The learning rate of each variant of the study, from a grid at layer 15 and the larger k.

    python -m evidence.tune --text corpus.jsonl.gz --work runs/evidence

Each point is the mean FVU of the last tenth of the training batches of a short run: text that the run has not seen
before, and none that is held out. Points that `results/tuning.json` has are not trained again.
"""

import argparse
import csv
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from evidence.study import HERE, TUNING, Run, config_of
from sae_lens_abstopk.evaluation.provenance import commit, environment
from sae_lens_abstopk.quickstart_model import quickstart_model
from sae_lens_abstopk.training.runner import train

GRID = (5e-4, 1e-3, 2e-3)
TOKENS, DECAY_STEPS = 1_024_000, 400
LAYER, EXPANSION = 15, 8


def measure(run: Run, lr: float, study: dict[str, Any], common: list[str], work: Path) -> dict[str, Any]:
    """One point: a short run at one learning rate."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        changes = [f"training_tokens={TOKENS}", f"lr_decay_steps={DECAY_STEPS}", "checkpoint_freq=0"]
        changes += ["logger.wandb_log_frequency=1", *common]
        cfg = config_of(run, study, changes, work, rates={run.variant: lr})
        cfg.output_path = folder
        train(cfg, console=Console(quiet=True))
        with (Path(folder) / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
    last = rows[-len(rows) // 10 :]
    means = {key: round(sum(float(row[key]) for row in last) / len(last), 5) for key in ("fvu", "l0")}
    return {
        "variant": run.variant,
        "k": run.k,
        "lr": lr,
        **means,
        "dead_latents": int(rows[-1]["dead_latents"]),
        "seconds": round(time.perf_counter() - start),
    }


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
    parser.add_argument("--only", nargs="*", help="variants; all by default")
    args = parser.parse_args()
    study = yaml.safe_load((HERE / "study.yaml").read_text(encoding="utf-8"))
    common = [f"dataset_path={args.text}", f"model_name={args.model or quickstart_model(print)}"]
    points = json.loads(TUNING.read_text())["points"] if TUNING.is_file() else []
    done = {(point["variant"], point["lr"]) for point in points}
    for lr in (GRID[1], GRID[2], GRID[0]):
        for variant in args.only or study["variants"]:
            if (variant, lr) in done:
                continue
            run = Run(LAYER, EXPANSION, max(study["k"]), variant, seed=0)
            points.append(measure(run, lr, study, common, args.work))
            print(points[-1], flush=True)
            TUNING.parent.mkdir(exist_ok=True)
            record = {
                "command": "python -m evidence.tune",
                "metric": "mean FVU of the last tenth of the training batches, each before its update; seed 0",
                "tokens": TOKENS,
                "commit": commit(),
                "environment": environment(),
                "points": points,
                "best": best(points),
            }
            TUNING.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
