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
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from sae_lens import SAE

from experiments.study.arguments import add_jobs, add_local, overrides_of, parsed, plain_errors, study_parser
from experiments.study.fill import fill, require_room
from experiments.study.processes import in_processes
from experiments.study.record import (
    all_lines,
    changed_lines,
    has_diverged,
    head_of,
    is_recorded,
    line_of,
    record,
    recorded,
    rounded,
    steered_numbers,
)
from experiments.study.runs import (
    HERE,
    Run,
    config_of,
    digest_of,
    is_steered,
    read_study,
    run_file,
    runs_of,
    settings_of,
    train_run,
    tuned_rates,
    weights_digest,
)
from sae_lens_abstopk.cli.app import pairs
from sae_lens_abstopk.evaluation.results.facts import weights_sha256
from sae_lens_abstopk.evaluation.results.schema import Results
from sae_lens_abstopk.evaluation.suite.evaluate import evaluate
from sae_lens_abstopk.evaluation.suite.suite import Suite, load_suite, tasks_of_suite
from sae_lens_abstopk.saes.geometry import match_saes
from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.training.checkpoints.resume import require_same_run
from sae_lens_abstopk.training.config.training_config import TrainingConfig


def local_of(suite: Suite, args: argparse.Namespace) -> dict[str, str]:
    """Return the ``--local`` files of a suite's tasks."""
    return {task: path for task, path in pairs(args.local, "--local").items() if task in suite.tasks}


def require_tasks(suites: Sequence[Suite], args: argparse.Namespace) -> None:
    """
    Read every task of the suites.

    Raises:
        ConfigError: a task cannot be read, or ``--local`` names a task that no suite has.
        HubError: a task cannot be fetched.
    """
    tasks = {task for suite in suites for task in suite.tasks}
    if unknown := sorted(pairs(args.local, "--local").keys() - tasks):
        raise ConfigError(f"--local names {', '.join(unknown)}; the tasks are {', '.join(sorted(tasks))}.")
    for suite in suites:
        tasks_of_suite(suite, local=local_of(suite, args))


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


def steering_suite(run: Run, study: Mapping[str, Any]) -> Suite:
    """Return the steering suite of a run, with random directions if the study asks for them."""
    suite = suite_named("steering")
    assert suite.steering is not None
    if run.variant in study["with_random_directions"]:
        return suite
    return suite.model_copy(update={"steering": suite.steering.model_copy(update={"random_directions": 0})})


def groups_of(runs: Sequence[Run], size: int) -> Iterator[list[Run]]:
    """Group runs for evaluation: at most ``size``, of one layer."""
    for _, one_layer in itertools.groupby(runs, key=lambda run: run.layer):
        members = list(one_layer)
        yield from (members[start : start + size] for start in range(0, len(members), size))


def train_and_probe(configs: Mapping[Run, TrainingConfig], study: Mapping[str, Any], args: argparse.Namespace) -> None:
    """Train the unfinished runs of one layer, evaluate those that did not diverge, and record all."""
    trained = in_processes(train_run, list(configs.values()), args.jobs)
    facts = {run: {**of, "settings": settings_of(run, study)} for run, of in zip(configs, trained, strict=True)}
    diverged = {run: of for run, of in facts.items() if "diverged" in of}
    for run, of in diverged.items():
        print(f"{run.name} diverged and is left out: {of['diverged']}", flush=True)
    record(*(head_of(run, of) for run, of in diverged.items()))
    whole = {run: cfg for run, cfg in configs.items() if run not in diverged}
    if whole:
        suite = suite_named("probing")
        probing = evaluated(whole, suite, args)
        record(*(line_of(run, facts[run], probing, local_of(suite, args)) for run in whole))


def record_stability(configs: Mapping[Run, TrainingConfig]) -> None:
    """Match the directions of every two seeds of a variant, if both recorded SAEs are in the work folder."""
    lines = recorded()
    here = [
        run
        for run, cfg in configs.items()
        if run.name in lines
        and run_file(cfg).is_file()
        and weights_sha256(cfg.output_path or "") == lines[run.name]["sae"]["weights_sha256"]
    ]
    matched = {}
    for first, second in itertools.combinations(here, 2):
        one, other = lines[first.name], lines[second.name]
        if (first.place, first.variant) != (second.place, second.variant) or (
            second.name in one["stability"] and first.name in other["stability"]
        ):
            continue
        match = match_saes(*(SAE.load_from_disk(configs[run].output_path or "") for run in (first, second)))
        matched[first.name, second.name] = rounded(match.mean_matched_cosine)
    with changed_lines() as now:
        for (first, second), cosine in matched.items():
            # another command may have replaced a line in the meantime
            if all(now.get(name, {}).get("sae") == lines[name]["sae"] for name in (first, second)):
                now[first]["stability"][second] = now[second]["stability"][first] = cosine
        # drop a cosine that only one line of a pair has: the other line's SAE is newer
        for name, line in now.items():
            if "stability" in line:
                line["stability"] = {
                    other: cosine
                    for other, cosine in line["stability"].items()
                    if name in now.get(other, {}).get("stability", {})
                }


def main() -> None:
    parser = study_parser(__doc__)
    add_local(parser)
    parser.add_argument("--only", default="", help="only runs whose names contain this")
    parser.add_argument("--limit", type=int, help="do at most this many runs")
    add_jobs(parser)
    parser.add_argument("--together", type=int, default=6, help="SAEs evaluated at a time")
    parser.add_argument("--no-steering", action="store_true", help="leave out steering")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="list the runs and which are done, and read all tasks; train nothing",
    )
    args = parsed(parser)

    console = Console(highlight=False)
    study = read_study()
    common = overrides_of(args)
    rates, lines, text = tuned_rates(), all_lines(), digest_of(args.text)
    with plain_errors(parser):
        every = {run: config_of(run, study, common, args.work, rates=rates) for run in runs_of(study)}
    configs = {run: cfg for run, cfg in every.items() if args.only in run.name}
    # a run with other text, another learning rate or other settings is not done
    done = {
        run
        for run, cfg in configs.items()
        if is_recorded(lines.get(run.name), lr=cfg.lr, text_sha256=text, settings=settings_of(run, study))
    }
    left = [run for run in configs if run not in done][: args.limit]
    diverged = {run for run in done if has_diverged(lines[run.name])}
    unsteered = [
        run
        for run in configs
        if is_steered(run, study) and run not in diverged and not (run in done and "steering" in lines[run.name])
    ]
    untrained = [configs[run] for run in left if not run_file(configs[run]).is_file()]
    console.print(f"{len(configs)} runs, {len(done)} of them recorded; {len(left)} to be done now", markup=False)
    if args.dry_run:
        for run in configs:
            console.print(run.name, "diverged" if run in diverged else "recorded" if run in done else "", markup=False)
    # report every mistake before the work starts
    with plain_errors(parser):
        for cfg in configs.values():
            require_text_of_run(cfg, text)
            require_same_run(run_file(cfg).parent, cfg)
        if left or unsteered:
            require_tasks([suite_named("probing"), suite_named("steering")], args)
        require_room(untrained)
        if args.dry_run:
            return
        fill(untrained)
        for group in groups_of(left, args.together):
            console.print(f"{datetime.now():%H:%M}  {', '.join(run.name for run in group)}", markup=False)
            train_and_probe({run: configs[run] for run in group}, study, args)
            record_stability(every)
        for run in [] if args.no_steering else unsteered:
            if run.name in recorded() and (run in done or run in left):
                console.print(f"{datetime.now():%H:%M}  steering {run.name}", markup=False)
                alone = {run: configs[run]}
                if "diverged" in (facts := train_run(configs[run])):  # trains if its folder is gone
                    console.print(f"{run.name} diverged, trained again: {facts['diverged']}; not steered", markup=False)
                    continue
                found = evaluated(alone, steering_suite(run, study), args)
                steering = {name: steered_numbers(of[run.name]) for name, of in found.steering.items()}
                # a retrained SAE may have other weights than the probed one
                steered = {"weights_sha256": found.saes[run.name].weights_sha256, "training_commit": facts["commit"]}
                with changed_lines() as now:
                    now[run.name] |= {"steering": steering, "steered_sae": steered}


def require_text_of_run(cfg: TrainingConfig, text: str) -> None:
    """Raise ConfigError if the run in the folder of ``cfg`` was trained on another text."""
    record = run_file(cfg)
    if record.is_file() and json.loads(record.read_text(encoding="utf-8"))["text_sha256"] != text:
        raise ConfigError(
            f"{cfg.output_path} was trained on other text than {cfg.dataset_path}; name another folder by --work."
        )


if __name__ == "__main__":
    main()
