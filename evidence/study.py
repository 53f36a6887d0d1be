"""Train and evaluate the SAEs of the study, one after the other; what is done is kept, so it may be stopped at any time.

    python -m evidence.study --text corpus.jsonl.gz --work runs/evidence

`study.yaml` says which SAEs. Each is a folder `WORK/saes/NAME_lrRATE` with its config and `run.json` (commit, environment,
wall time, digest of the text). The activations of all layers are computed once, in one pass of the model (fill.py), into
`WORK/activations`; learning rates are those that tune.py chose. SAEs are evaluated several at a time, so that they share the
passes of the language model: a results file of `abstopk eval` in `WORK/evaluations`, of which `results/runs.jsonl` beside this
file keeps what the tables show, a line an SAE.
"""

import argparse
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from os import cpu_count

import yaml
from rich.console import Console

from evidence.arguments import add_local, overrides_of, study_parser
from evidence.fill import fill
from evidence.processes import in_processes
from evidence.record import is_recorded, line_of, record, recorded, steered_numbers
from evidence.runs import HERE, Run, config_of, digest_of, read_study, record_of, runs_of, train_run, tuned_rates
from sae_lens_abstopk.cli.app import pairs
from sae_lens_abstopk.evaluation.evaluate import evaluate
from sae_lens_abstopk.evaluation.records import weights_sha256
from sae_lens_abstopk.evaluation.results import Results
from sae_lens_abstopk.training.config import TrainingConfig


def evaluated(configs: Mapping[Run, TrainingConfig], suite: str, args: argparse.Namespace) -> Results:
    """Results of a suite of this folder on trained SAEs of one layer."""
    folders = {run.name: str(cfg.output_path) for run, cfg in configs.items()}
    local = pairs(args.local, "--local")
    weights = "".join(str(weights_sha256(folder)) for folder in folders.values())
    digest = hashlib.sha256(weights.encode()).hexdigest()
    tasks = yaml.safe_load((HERE / f"{suite}.yaml").read_text())["tasks"]
    return evaluate(
        folders,
        suite=HERE / f"{suite}.yaml",
        out=args.work / "evaluations" / f"{suite}_{next(iter(folders))}_{digest[:8]}",
        model_name=str(args.model),
        local={task: path for task, path in local.items() if task in tasks},
        groups={run.name: without_seed(run.name) for run in configs},
    )


def without_seed(name: str) -> str:
    """Name of a run but for its seed, which runs that are to be compared in stability share."""
    return name.rpartition("_seed")[0]


def groups_of(runs: Sequence[Run], size: int) -> Iterator[list[Run]]:
    """Runs that are evaluated together: of one layer, ``size`` at most, in their order."""
    for _, one_layer in itertools.groupby(runs, key=lambda run: run.layer):
        members = list(one_layer)
        yield from (members[start : start + size] for start in range(0, len(members), size))


def train_and_probe(configs: Mapping[Run, TrainingConfig], args: argparse.Namespace) -> None:
    """Train what is not done yet of the runs of one layer, and record them all."""
    facts = list(in_processes(train_run, list(configs.values()), args.jobs))
    probing = evaluated(configs, "probing", args)
    for run, known in zip(configs, facts, strict=True):
        record(line_of(run, known, probing))


def main() -> None:
    parser = study_parser(__doc__)
    add_local(parser)
    parser.add_argument("--only", default="", help="runs whose name has this in it")
    parser.add_argument("--limit", type=int, help="stop after this many runs that were not done")
    parser.add_argument("--jobs", type=int, default=cpu_count(), help="SAEs trained at a time, by default one a core")
    parser.add_argument("--together", type=int, default=6, help="SAEs evaluated at a time")
    parser.add_argument("--no-steering", action="store_true", help="leave out steering, which takes longest")
    parser.add_argument("--dry-run", action="store_true", help="list the runs and which are done")
    args = parser.parse_args()

    console = Console(highlight=False)
    study = read_study()
    common = overrides_of(args)
    rates, lines, text = tuned_rates(), recorded(), digest_of(args.text)
    # every mistake before any work
    configs = {
        run: config_of(run, study, common, args.work, rates=rates) for run in runs_of(study) if args.only in run.name
    }
    for cfg in configs.values():
        found = json.loads(record_of(cfg).read_text(encoding="utf-8")) if record_of(cfg).is_file() else {}
        if found.get("text_sha256", text) != text:
            parser.error(
                f"{cfg.output_path} was trained on other text than {args.text}; name another folder by --work."
            )
    # a run on other text, or at another learning rate than the one that is chosen now, has to be done again
    done = {run for run, cfg in configs.items() if is_recorded(lines.get(run.name), lr=cfg.lr, text_sha256=text)}
    left = [run for run in configs if run not in done][: args.limit]
    unsteered = [run for run in configs if run.steered and not (run in done and "steering" in lines[run.name])]
    console.print(f"{len(configs)} runs, {len(done)} of them recorded; {len(left)} to be done now", markup=False)
    if args.dry_run:
        for run in configs:
            console.print(run.name, "recorded" if run in done else "", markup=False)
        return
    fill([configs[run] for run in left if not record_of(configs[run]).is_file()])
    for group in groups_of(left, args.together):
        console.print(f"{datetime.now():%H:%M}  {', '.join(run.name for run in group)}", markup=False)
        train_and_probe({run: configs[run] for run in group}, args)
    for run in [] if args.no_steering else unsteered:
        if run in done or run in left:
            console.print(f"{datetime.now():%H:%M}  steering {run.name}", markup=False)
            alone = {run: configs[run]}
            train_run(configs[run])  # where its folder is gone
            if weights_sha256(configs[run].output_path or "") != recorded()[run.name]["sae"]["weights_sha256"]:
                train_and_probe(alone, args)  # trained again by another machine: one line is of one SAE
            found = evaluated(alone, "steering", args).steering
            steering = {name: steered_numbers(of[run.name]) for name, of in found.items()}
            record(recorded()[run.name] | {"steering": steering})


if __name__ == "__main__":
    main()
