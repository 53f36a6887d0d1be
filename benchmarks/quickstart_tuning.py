"""How the learning rate and the batch of the quickstart were chosen.

    python benchmarks/quickstart_tuning.py --out evals/results/quickstart_tuning.json

Trains the quickstart's two SAEs, named as the run names them, at every point of a small grid and records the mean FVU of
the last tenth of the training batches. Each batch is text that the run has not seen before, so this needs no held-out
text, and the text that the quickstart reports on plays no part in the choice. Points that the record has are kept.
"""

import argparse
import csv
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from recording import command, environment, write_record
from rich.console import Console

from sae_lens_abstopk import load_config, train
from sae_lens_abstopk.provenance import commit
from sae_lens_abstopk.quickstart_model import quickstart_model

GRID = [(256, 5e-4), (256, 1e-3), (256, 2e-3), (512, 1e-3), (512, 2e-3), (1024, 2e-3)]


@dataclass(frozen=True)
class Point:
    """One run of the grid."""

    batch: int
    lr: float
    fvu: dict[str, float]
    dead_latents: dict[str, int]
    seconds: float
    commit: str = "unknown"


def measure(batch: int, lr: float, model: Path, overrides: list[str]) -> Point:
    """Train at one point."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        changes = [f"model_name={model}", f"output_path={folder}/run", f"train_batch_size_tokens={batch}", f"lr={lr}"]
        # the window in which a latent has to fire, in tokens, is that of the preset
        changes += [f"dead_feature_window={51200 // batch}", "logger.wandb_log_frequency=1", *overrides]
        result = train(load_config("quickstart", changes), console=Console(quiet=True))
        seconds = time.perf_counter() - started
        fvu, dead = {}, {}
        for name, path in result.folders.items():
            with (path / "metrics.csv").open() as file:
                rows = list(csv.DictReader(file))
            last = rows[-len(rows) // 10 :]
            label = result.saes[name].cfg.metadata.label
            fvu[label] = sum(float(row["fvu"]) for row in last) / len(last)
            dead[label] = int(rows[-1]["dead_latents"])
    return Point(batch, lr, fvu, dead, seconds, commit() or "unknown")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("overrides", nargs="*", help="key=value changes to the preset")
    args = parser.parse_args()
    model = quickstart_model(print)
    points = [Point(**point) for point in json.loads(args.out.read_text())["points"]] if args.out.exists() else []
    for batch, lr in GRID:
        if any((point.batch, point.lr) == (batch, lr) for point in points):
            print(f"batch {batch}, lr {lr:g}: in {args.out} already, not trained again")
            continue
        points.append(measure(batch, lr, model, args.overrides))
        print(points[-1], flush=True)
        record = {
            "command": command(),
            "metric": "mean FVU of the last tenth of the training batches, each before its update; one seed (42)",
            "model": "SmolLM2-135M-Instruct, Q4_1 dequantised, layer 15",
            "overrides": args.overrides,
            "environment": environment(),
            "points": [asdict(point) for point in points],
        }
        write_record(record, args.out)


if __name__ == "__main__":
    main()
