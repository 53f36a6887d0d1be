"""Train and evaluate the SAEs of the study (`study.yaml`); it can be stopped at any time, and resumes.

    python -m experiments.study.study --text corpus.jsonl.gz --work runs/evidence

- `WORK/activations`: the activations of all layers, from one pass of the model (`fill.py`).
- `WORK/saes/NAME_lrRATE`: each SAE with its config and `run.json` (commit, environment, wall time, digest of the text).
  Learning rates: `results/tuning.json`. To try a diverged run again, delete its folder and its line in the record.
- `WORK/evaluations`: results files. SAEs are evaluated several at a time, to share passes of the language model.
- `results/runs.jsonl`: the record, a line per run.
"""

import argparse
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE

from experiments.recording import arguments
from experiments.study.fill import fill
from experiments.study.record import (
    all_lines,
    has_diverged,
    head_of,
    is_recorded,
    line_of,
    record,
    recorded,
    rounded,
    steered_numbers,
    write_lines,
)
from experiments.study.runs import (
    HERE,
    Run,
    config_of,
    digest_of,
    is_steered,
    rates_of,
    read_study,
    run_file,
    runs_of,
    settings_of,
    train_run,
    weights_digest,
)
from sae_lens_abstopk.cli.app import pairs
from sae_lens_abstopk.evaluation.results.facts import weights_sha256
from sae_lens_abstopk.evaluation.results.schema import Results
from sae_lens_abstopk.evaluation.suite.evaluate import evaluate
from sae_lens_abstopk.evaluation.suite.suite import Suite, load_suite, tasks_of_suite
from sae_lens_abstopk.model.quickstart_model import quickstart_model
from sae_lens_abstopk.saes.geometry import match_saes
from sae_lens_abstopk.system.errors import ConfigError, HubError, TrainingStopped
from sae_lens_abstopk.training.checkpoints.resume import require_same_run
from sae_lens_abstopk.training.config.training_config import TrainingConfig

MOST_JOBS = 8
"""Each holds an SAE with its optimiser, and a buffer of activations."""


def local_of(suite: Suite, args: argparse.Namespace) -> dict[str, str]:
    """Return the ``--local`` files of a suite's tasks."""
    return {task: path for task, path in pairs(args.local, "--local").items() if task in suite.tasks}


def evaluated(configs: Mapping[Run, TrainingConfig], suite: Suite, args: argparse.Namespace) -> Results:
    """Run a suite on trained SAEs of one layer."""
    folders = {run.name: str(cfg.output_path) for run, cfg in configs.items()}
    return evaluate(
        folders,
        suite=suite,
        out=args.work / "evaluations" / f"{suite.name}_{next(iter(folders))}_{weights_digest(folders.values())}",
        model_name=str(args.model),
        local=local_of(suite, args),
        groups={},  # record_stability matches the seeds
    )


def suite_named(name: str) -> Suite:
    """Return a suite of this folder."""
    return load_suite(HERE / f"{name}.yaml")


def groups_of(runs: Sequence[Run], size: int) -> Iterator[list[Run]]:
    """Group runs for evaluation: at most ``size``, of one layer."""
    for _, one_layer in itertools.groupby(runs, key=lambda run: run.layer):
        members = list(one_layer)
        yield from (members[start : start + size] for start in range(0, len(members), size))


def train_and_probe(configs: Mapping[Run, TrainingConfig], study: Mapping[str, Any], args: argparse.Namespace) -> None:
    """Train the unfinished runs of one layer, evaluate those that did not diverge, and record all."""
    jobs = min(args.jobs, len(configs))
    if jobs == 1:
        trained = list(map(train_run, configs.values()))
    else:
        with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
            trained = list(pool.map(train_run, configs.values()))
    facts = {run: {**of, "settings": settings_of(run, study)} for run, of in zip(configs, trained, strict=True)}
    whole = {run: cfg for run, cfg in configs.items() if "diverged" not in facts[run]}
    record(*(head_of(run, of) for run, of in facts.items() if run not in whole))
    if whole:
        suite = suite_named("probing")
        probing = evaluated(whole, suite, args)
        record(*(line_of(run, facts[run], probing, local_of(suite, args)) for run in whole))


def record_stability(configs: Mapping[Run, TrainingConfig]) -> None:
    """Match the directions of every two seeds of a variant, if both recorded SAEs are in the work folder."""
    lines = all_lines()
    here = [
        run
        for run, cfg in configs.items()
        if run_file(cfg).is_file()
        and lines.get(run.name, {}).get("sae", {}).get("weights_sha256") == weights_sha256(cfg.output_path or "")
    ]
    for first, second in itertools.combinations(here, 2):
        one, other = (lines[run.name]["stability"] for run in (first, second))
        if (first.place, first.variant) == (second.place, second.variant) and second.name not in one:
            match = match_saes(*(SAE.load_from_disk(configs[run].output_path or "") for run in (first, second)))
            one[second.name] = other[first.name] = rounded(match.mean_matched_cosine)
    write_lines(lines)


def steer(run: Run, cfg: TrainingConfig, study: Mapping[str, Any], args: argparse.Namespace) -> None:
    """Steer with a run's latents, and with random directions if the study asks for them, and record it."""
    facts = train_run(cfg)  # trains if its folder is gone, which may give other weights than the probed ones
    if "diverged" in facts:
        return
    suite = suite_named("steering")
    if run.variant not in study["with_random_directions"]:
        assert suite.steering is not None
        suite = suite.model_copy(update={"steering": suite.steering.model_copy(update={"random_directions": 0})})
    results, lines = evaluated({run: cfg}, suite, args), all_lines()
    steering = {name: steered_numbers(of[run.name]) for name, of in results.steering.items()}
    steered = {"weights_sha256": results.saes[run.name].weights_sha256, "training_commit": facts["commit"]}
    lines[run.name] |= {"steering": steering, "steered_sae": steered}
    write_lines(lines)


def parsed() -> argparse.Namespace:
    """Parse the arguments; end the command if the corpus is missing."""
    parser = arguments(__doc__)
    parser.add_argument("--text", type=Path, required=True, help="corpus made by corpus.py")
    parser.add_argument("--work", type=Path, default=Path("runs/evidence"), help="folder of SAEs and evaluations")
    parser.add_argument("--model", type=Path, help="folder of the model; by default the quickstart's, which is fetched")
    parser.add_argument("--local", action="append", default=[], metavar="TASK=PATH", help="a public task from files")
    parser.add_argument("--only", default="", help="only runs whose names contain this")
    parser.add_argument("--limit", type=int, help="do at most this many runs")
    jobs = 1 if torch.cuda.is_available() else min(os.cpu_count() or 1, MOST_JOBS)
    parser.add_argument("--jobs", type=int, default=jobs, help="SAEs trained at a time, each on one core")
    parser.add_argument("--together", type=int, default=6, help="SAEs evaluated at a time")
    parser.add_argument("--no-steering", action="store_true", help="leave out steering")
    parser.add_argument("--dry-run", action="store_true", help="read all tasks and count the runs; train nothing")
    args = parser.parse_args()
    if min(args.jobs, args.together) < 1:
        parser.error("--jobs and --together must be at least 1.")
    if not args.text.is_file():
        parser.error(f"{args.text} does not exist; make a corpus with python -m experiments.study.corpus FOLDER.")
    return args


def run_study(args: argparse.Namespace) -> None:
    """Do what is left of the study."""
    args.model = args.model or quickstart_model(print)
    study, common = read_study(), [f"dataset_path={args.text}", f"model_name={args.model}"]
    lines, text, rates = all_lines(), digest_of(args.text), rates_of(study)
    every = {run: config_of(run, study, common, args.work, rates=rates) for run in runs_of(study)}
    configs = {run: cfg for run, cfg in every.items() if args.only in run.name}
    # a run with other text, another learning rate or other settings is not done
    done = {
        run
        for run, cfg in configs.items()
        if is_recorded(lines.get(run.name), lr=cfg.lr, text_sha256=text, settings=settings_of(run, study))
    }
    left = [run for run in configs if run not in done][: args.limit]
    unsteered = [
        run
        for run in configs
        if is_steered(run, study)
        and not (run in done and ("steering" in lines[run.name] or has_diverged(lines[run.name])))
    ]
    print(f"{len(configs)} runs, {len(done)} of them recorded; {len(left)} to be done now")
    # report every mistake before the work starts
    for cfg in configs.values():
        require_same_run(run_file(cfg).parent, cfg)
    for suite in map(suite_named, ("probing", "steering")):
        tasks_of_suite(suite, local=local_of(suite, args))
    if args.dry_run:
        return
    fill([configs[run] for run in left if not run_file(configs[run]).is_file()])
    for group in groups_of(left, args.together):
        print(f"{datetime.now():%H:%M}  {', '.join(run.name for run in group)}", flush=True)
        train_and_probe({run: configs[run] for run in group}, study, args)
        record_stability(every)
    for run in [] if args.no_steering else unsteered:
        if run.name in recorded() and (run in done or run in left):
            print(f"{datetime.now():%H:%M}  steering {run.name}", flush=True)
            steer(run, configs[run], study, args)


def main() -> None:
    try:
        run_study(parsed())
    except (ConfigError, HubError, TrainingStopped) as error:  # says what to do, so that no traceback is needed
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
