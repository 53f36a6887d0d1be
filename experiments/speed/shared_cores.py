"""Speed of processes that share the cores, with OpenMP's own spinning and with the package's (GOMP_SPINCOUNT=1000).

    python -m experiments.speed.shared_cores --out experiments/speed/results/shared_cores.json

Runs of 300 steps of 128 tokens at layer 1 of SmolLM2-135M-Instruct, with 1,152 latents: small products, whose threads
wait often. Every process has as many threads as there are cores; the settings alternate. Tokens per second are those
of all processes together; the tests are timed in seconds.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from experiments.speed.recording import ROOT, command, environment, write_record
from sae_lens_abstopk.model.quickstart_model import quickstart_model

SPINS = {"OpenMP's default": "300000", "the package's": "1000"}
STEPS = 300
COMMAND = [sys.executable, "-m", "sae_lens_abstopk"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
SMALL = (
    *("layer=1", "sae.expansion_factor=2", "sae.k=16", "companions={}", "train_batch_size_tokens=128"),
    *(f"training_tokens={STEPS * 128}", "n_batches_in_buffer=8", "context_size=64"),
)
SWEEP = "runs:\n  - {config: quickstart, variants: ['']}\n"
TESTS = ("tests/sparse", "tests/saes", "tests/dictionary", "-m", "not slow", "-p", "no:cacheprovider")


def together(commands: list[list[str]], environ: dict[str, str]) -> float:
    """Run commands at the same time; return the seconds until the last ends."""
    started = time.monotonic()
    running = [subprocess.Popen(each, env=environ, stdout=subprocess.DEVNULL, cwd=ROOT) for each in commands]
    assert [process.wait() for process in running] == [0] * len(commands)
    return time.monotonic() - started


def measure(case: str, model: Path, environ: dict[str, str]) -> float:
    """Return the tokens per second of a case, or the seconds of the tests."""
    if case == "tests, two workers":
        of_tests = {key: value for key, value in environ.items() if key != "OMP_NUM_THREADS"}
        return together([[sys.executable, "-m", "pytest", "-q", "-n", "2", *TESTS]], of_tests)
    with tempfile.TemporaryDirectory() as scratch:
        folder, settings = Path(scratch), [*SMALL, f"model_name={model}"]
        if case == "two ranks":
            commands = [[*TORCHRUN, "-m", "sae_lens_abstopk", "train", "quickstart", *settings, "--out", f"{folder}/0"]]
        elif case == "two sweeps":
            (folder / "sweep.yaml").write_text(SWEEP)
            sweep = [*COMMAND, "sweep", f"{folder}/sweep.yaml", *settings, "--out"]
            commands = [[*sweep, f"{folder}/{i}"] for i in range(2)]
        else:
            n = 1 if case == "one run" else 2
            commands = [[*COMMAND, "train", "quickstart", *settings, "--out", f"{folder}/{i}"] for i in range(n)]
        together(commands, environ)
        last_rows = [list(csv.DictReader(path.open()))[-1] for path in folder.rglob("metrics.csv")]
        return sum(float(row["tokens_per_second"]) for row in last_rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    machine, model = environment(), quickstart_model(print)
    found: dict[str, dict[str, list[float]]] = {}
    for case in ("one run", "two runs", "two ranks", "two sweeps", "tests, two workers"):
        found[case] = {name: [] for name in SPINS}
        for _ in range(args.repeats):
            for name, spin in SPINS.items():
                environ = os.environ | {"GOMP_SPINCOUNT": spin, "OMP_NUM_THREADS": str(os.cpu_count())}
                found[case][name].append(measure(case, model, environ))
                print(case, name, found[case][name][-1], flush=True)
    record: dict[str, Any] = {
        "command": command(),
        "tokens_per_second, or seconds of the tests": found,
        "environment": machine,
    }
    write_record(record, args.out)


if __name__ == "__main__":
    main()
