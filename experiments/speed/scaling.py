"""Tokens per second of one run: in one process with one thread and with two, and in two processes with one thread each.

    python -m experiments.speed.scaling --out build/bench/scaling.json

SmolLM2-135M-Instruct at layer 15, the language model in bfloat16, a batch AbsTopK SAE of 4,608 latents with k = 57,
4,096 tokens per step and a mixing buffer of 8,192 in all: the same steps in every case. torchrun starts the cases in
turn; the time is that from the second step to the last. Run it on an idle machine: the record has the number of cores
that other work kept busy (Linux).
"""

import csv
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from experiments.recording import arguments, command, environment, write_record
from sae_lens_abstopk.model.quickstart_model import quickstart_model

BATCH, CONTEXT, BUFFER = 4096, 128, 8192
FIRST_STEP = 2
# number of processes, and of threads in each
CASES = {"one process": (1, 1), "one process, two threads": (1, 2), "two processes": (2, 1)}
SETTINGS = (
    *("companions={}", "max_norm_multiple=null", "seqpos_slice=[null]", "exclude_special_tokens=false"),
    *(f"train_batch_size_tokens={BATCH}", f"context_size={CONTEXT}", "logger.wandb_log_frequency=1"),
)


def speed(model: Path, ranks: int, threads: int, tokens: int) -> float:
    """Measure the tokens per second of a run in ``ranks`` processes."""
    with tempfile.TemporaryDirectory() as folder:
        run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        run += ["-m", "sae_lens_abstopk", "train", "quickstart", *SETTINGS, "--out", f"{folder}/run"]
        run += [f"model_name={model}", f"training_tokens={tokens}"]
        run += [f"n_batches_in_buffer={BUFFER // CONTEXT // ranks}"]
        with_threads = os.environ | {"OMP_NUM_THREADS": str(threads)}
        subprocess.run(run, check=True, env=with_threads, stdout=subprocess.DEVNULL)
        with Path(folder, "run", "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
    # the column is the mean speed since the start, which gives the time of each row
    done = [float(row["tokens"]) for row in rows]
    seconds = [n / float(row["tokens_per_second"]) for n, row in zip(done, rows, strict=True)]
    first = FIRST_STEP - 1
    return (done[-1] - done[first]) / (seconds[-1] - seconds[first])


def busy_seconds_of_others() -> float:
    """Return core seconds of work since the machine started, without those of finished runs."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    idle = ticks[3] + ticks[4]
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (sum(ticks[:8]) - idle) / os.sysconf("SC_CLK_TCK") - own.ru_utime - own.ru_stime


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--tokens", type=int, default=BATCH * 10)
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    machine = environment()
    model = quickstart_model(print)
    speeds: dict[str, list[float]] = {case: [] for case in CASES}
    others: dict[str, list[float]] = {case: [] for case in CASES}
    for _ in range(args.repeats):
        for case, (ranks, threads) in CASES.items():
            busy, started = busy_seconds_of_others(), time.monotonic()
            speeds[case].append(speed(model, ranks, threads, args.tokens))
            others[case].append((busy_seconds_of_others() - busy) / (time.monotonic() - started))
            print(case, speeds[case][-1], others[case][-1], flush=True)
    medians = {case: statistics.median(found) for case, found in speeds.items()}
    record: dict[str, Any] = {
        "command": command(),
        "tokens": args.tokens,
        "processes_and_threads_of_each": CASES,
        "tokens_per_second": speeds,
        "cores_busy_with_other_work": others,
        "two_processes_over_two_threads": medians["two processes"] / medians["one process, two threads"],
        "two_processes_over_one_thread": medians["two processes"] / medians["one process"],
        "environment": machine,
    }
    write_record(record, args.out)


if __name__ == "__main__":
    main()
