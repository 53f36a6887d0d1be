"""Train and evaluate the SAEs of the study, one after the other; what is done is kept, so it may be stopped at any time.

    python -m evidence.study --text corpus.jsonl.gz --work runs/evidence

`study.yaml` says which SAEs. Each is a folder `WORK/saes/NAME_lrRATE` with its config and `run.json` (commit, environment,
wall time, digest of the text). The activations of all layers are computed once, in one pass of the model (fill.py), into
`WORK/activations`; learning rates are those that tune.py chose. SAEs are evaluated several at a time, so that they share the
passes of the language model: a results file of `abstopk eval` in `WORK/evaluations`, of which `results/runs.jsonl` beside this
file keeps what the tables show, a line an SAE.
"""

import argparse
import csv
import hashlib
import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from os import cpu_count
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from evidence.fill import fill
from evidence.processes import in_processes
from sae_lens_abstopk.cli.app import pairs
from sae_lens_abstopk.evaluation.evaluate import evaluate
from sae_lens_abstopk.evaluation.provenance import commit, environment
from sae_lens_abstopk.evaluation.results import Interval, Results
from sae_lens_abstopk.quickstart_model import quickstart_model
from sae_lens_abstopk.training.comparison import variants_as_overrides
from sae_lens_abstopk.training.config import TrainingConfig
from sae_lens_abstopk.training.config_file import load_config
from sae_lens_abstopk.training.resume import is_finished, resume_if_started
from sae_lens_abstopk.training.runner import train

HERE = Path(__file__).parent
RECORD = HERE / "results" / "runs.jsonl"
TUNING = HERE / "results" / "tuning.json"
METHODS = (
    "single latent",
    "pair",
    "1-sparse",
    "2-sparse",
    "5-sparse",
    "16-sparse",
    "difference in means",
    "logistic regression",
    "single latent, permuted",
    "16-sparse, permuted",
)


@dataclass(frozen=True)
class Run:
    """One SAE of the study."""

    layer: int
    expansion: int
    """d_sae over d_in; a variant with ``times_wider`` has as many times more."""
    k: int
    variant: str
    seed: int
    steered: bool = False

    @property
    def name(self) -> str:
        """Also the name of its folder."""
        return f"layer{self.layer}_x{self.expansion}_k{self.k}_{self.variant}_seed{self.seed}"


def runs_of(study: Mapping[str, Any]) -> Iterator[Run]:
    """The runs of a study file, in its order."""
    for entry in study["runs"]:
        variants = entry.get("variants") or study["variants"]
        axes = (entry.get("expansions", [8]), entry.get("k", study["k"]), variants, entry["seeds"])
        for expansion, k, variant, seed in itertools.product(*axes):
            run = Run(entry["layer"], expansion, k, variant, seed)
            steered = all(getattr(run, key) == value for key, value in study["steered"].items())
            yield replace(run, steered=steered)


def tuned_rates() -> dict[str, float]:
    """The learning rate that tune.py chose for each variant, of those that it has tried."""
    return json.loads(TUNING.read_text(encoding="utf-8"))["best"] if TUNING.is_file() else {}


def config_of(
    run: Run, study: Mapping[str, Any], common: list[str], work: Path, *, rates: Mapping[str, float]
) -> TrainingConfig:
    """The checked config of a run with the overrides ``common``, at the learning rate of its variant in ``rates``, if it is there."""
    source = str(HERE / study["config"])
    overrides = [
        *common,
        f"layer={run.layer}",
        f"sae.expansion_factor={run.expansion}",
        f"seed={run.seed}",
        f"activation_cache={work / 'activations' / f'layer{run.layer}'}",
    ]
    if run.variant in rates:
        overrides.append(f"lr={rates[run.variant]}")
    options = study["variants"][run.variant]
    base = load_config(source, overrides)
    overrides.append(f"output_path={work / 'saes' / f'{run.name}_lr{base.lr:g}'}")
    return load_config(
        source, [*overrides, *variants_as_overrides({run.variant: options}, base, run.k, where=run.name)]
    )


def train_run(cfg: TrainingConfig) -> dict[str, Any]:
    """Train a run that is not done yet; what is known of it."""
    record = record_of(cfg)
    if not record.is_file():
        start, code = time.perf_counter(), commit()
        resume_if_started(cfg)
        if not is_finished(cfg):
            train(cfg, console=Console(quiet=True))
        with (record.parent / "metrics.csv").open() as file:
            last = list(csv.DictReader(file))[-1]
        facts = {
            "commit": code,
            "environment": environment(),
            "text_sha256": digest_of(cfg.dataset_path),
            "seconds": round(time.perf_counter() - start),
            "resumed": cfg.resume_from_checkpoint is not None,
            "tokens": cfg.total_training_steps * cfg.train_batch_size_tokens,
            "lr": cfg.lr,
            "batch": cfg.train_batch_size_tokens,
            # of the last steps of training, so many of them as dead_feature_window says
            "dead_latents": int(last["dead_latents"]),
            "dead_window_tokens": cfg.dead_feature_window * cfg.train_batch_size_tokens,
        }
        record.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return json.loads(record.read_text(encoding="utf-8"))


def record_of(cfg: TrainingConfig) -> Path:
    """The file that says that a run is done, and how."""
    assert cfg.output_path is not None
    return Path(cfg.output_path) / "run.json"


def digest_of(text: str | Path) -> str:
    """The first twelve digits of the SHA-256 of a corpus: runs on different text are not of one study."""
    with Path(text).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def evaluated(configs: Mapping[Run, TrainingConfig], suite: str, args: argparse.Namespace) -> Results:
    """Results of a suite of this folder on trained SAEs of one layer."""
    folders = {run.name: str(cfg.output_path) for run, cfg in configs.items()}
    local = pairs(args.local, "--local")
    tasks = yaml.safe_load((HERE / f"{suite}.yaml").read_text())["tasks"]
    return evaluate(
        folders,
        suite=HERE / f"{suite}.yaml",
        out=args.work / "evaluations" / f"{suite}_{Path(next(iter(folders.values()))).name}",
        model_name=str(args.model),
        local={task: path for task, path in local.items() if task in tasks},
        groups={run.name: without_seed(run.name) for run in configs},
    )


def line_of(run: Run, facts: Mapping[str, Any], probing: Results) -> dict[str, Any]:
    """What is recorded of a run, but for its steering."""
    tasks = {}
    for name, task in probing.tasks.items():
        found = task.saes[run.name]
        tasks[name] = {
            "digest": task.digest[:12],
            "texts": task.texts,
            "groups": task.test_groups,
            "auroc": {method: numbers(found.probes[method].auroc) for method in METHODS if method in found.probes},
            "accuracy": {method: numbers(found.probes[method].accuracy)[:1] for method in METHODS[:8]},
            "coverage": numbers(found.latent.coverage),
            "best_coverage": numbers(found.best_coverage.coverage),
            "coverage_controls": {name: numbers(of) for name, of in found.coverage_controls.items()},
            "best_coverage_latent": found.best_coverage.latent,
            "density": rounded(found.latent.density),
            "best_density": rounded(found.best_coverage.density),
            "latent": found.latent.latent,
            "cosine": rounded(found.latent.direction_cosine),
        }
    return {
        "name": run.name,
        "layer": run.layer,
        "expansion": run.expansion,
        "k": run.k,
        "variant": run.variant,
        "seed": run.seed,
        "training": dict(facts),
        "evaluation": {"commit": probing.commit, "text": probing.text, "held_out": probing.held_out},
        "sae": probing.saes[run.name].model_dump(include={"architecture", "d_sae", "weights_sha256"}),
        "reconstruction": probing.reconstruction[run.name].model_dump(mode="json"),
        "geometry": probing.geometry[run.name].model_dump(mode="json"),
        "stability": {
            ({pair.first, pair.second} - {run.name}).pop(): rounded(pair.mean_cosine)
            for pair in probing.stability
            if run.name in (pair.first, pair.second)
        },
        "tasks": tasks,
    }


def without_seed(name: str) -> str:
    """Name of a run but for its seed, which runs that are to be compared in stability share."""
    return name.rpartition("_seed")[0]


def steered_numbers(record: Any) -> dict[str, Any]:
    """Effects of each intervention at matched cost, and what steering refusal does besides."""
    sides = {"towards_a", "towards_b"}
    numbers_of = {"strength", "reached", "log_odds", "generated_cost", "neutral_cost"}
    found = {
        name: one.model_dump(mode="json", include={"symmetry": True, **dict.fromkeys(sides, numbers_of)})
        for name, one in record.interventions.items()
    }
    behaviour = {name: [one.model_dump(mode="json") for one in both] for name, both in record.behaviour.items()}
    return {
        "latent": record.latent,
        "baseline_log_odds": rounded(record.baseline_log_odds),
        "interventions": found,
        "behaviour": behaviour,
    }


def numbers(interval: Interval) -> list[float | None]:
    """Value, low and high."""
    return [rounded(interval.value), rounded(interval.low), rounded(interval.high)]


def rounded(value: float | None) -> float | None:
    """To four digits; none where it is not defined."""
    return None if value is None or value != value else round(value, 4)


def recorded() -> dict[str, dict[str, Any]]:
    """Lines of the record by name of the run."""
    if not RECORD.is_file():
        return {}
    lines = [json.loads(line) for line in RECORD.read_text(encoding="utf-8").splitlines()]
    return {line["name"]: line for line in lines}


def is_recorded(line: Mapping[str, Any] | None, **training: Any) -> bool:
    """Whether there is a line of a run that was trained like this."""
    return line is not None and all(line["training"].get(key) == wanted for key, wanted in training.items())


def record(line: dict[str, Any]) -> None:
    """Put a line into the record, in place of an older one of the same name."""
    lines = recorded() | {line["name"]: line}
    RECORD.parent.mkdir(exist_ok=True)
    partial = RECORD.with_suffix(".partial")
    partial.write_text("".join(json.dumps(lines[name]) + "\n" for name in sorted(lines)), encoding="utf-8")
    partial.replace(RECORD)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="corpus, as corpus.py makes it")
    parser.add_argument("--work", type=Path, default=Path("runs/evidence"), help="SAEs, activations, evaluations")
    parser.add_argument("--model", type=Path, help="folder of the model; by default the quickstart's, which is fetched")
    parser.add_argument("--local", action="append", default=[], metavar="TASK=PATH", help="files of a public task")
    parser.add_argument("--only", default="", help="runs whose name has this in it")
    parser.add_argument("--limit", type=int, help="stop after this many runs that were not done")
    parser.add_argument("--jobs", type=int, default=cpu_count(), help="SAEs trained at a time, by default one a core")
    parser.add_argument("--together", type=int, default=6, help="SAEs evaluated at a time")
    parser.add_argument("--no-steering", action="store_true", help="leave out steering, which takes longest")
    parser.add_argument("--dry-run", action="store_true", help="list the runs and which are done")
    args = parser.parse_args()

    console = Console(highlight=False)
    study = yaml.safe_load((HERE / "study.yaml").read_text(encoding="utf-8"))
    args.model = args.model or quickstart_model(print)
    common = [f"dataset_path={args.text}", f"model_name={args.model}"]
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
        chosen = {run: configs[run] for run in group}
        facts = list(in_processes(train_run, list(chosen.values()), args.jobs))
        probing = evaluated(chosen, "probing", args)
        for run, known in zip(group, facts, strict=True):
            record(line_of(run, known, probing))
    for run in [] if args.no_steering else unsteered:
        if run in done or run in left:
            lines = recorded()
            console.print(f"{datetime.now():%H:%M}  steering {run.name}", markup=False)
            train_run(configs[run])  # where its folder is gone
            found = evaluated({run: configs[run]}, "steering", args).steering
            record(lines[run.name] | {"steering": {name: steered_numbers(of[run.name]) for name, of in found.items()}})


def groups_of(runs: Sequence[Run], size: int) -> Iterator[list[Run]]:
    """Runs that are evaluated together: of one layer, ``size`` at most, in their order."""
    for _, one_layer in itertools.groupby(runs, key=lambda run: run.layer):
        members = list(one_layer)
        yield from (members[start : start + size] for start in range(0, len(members), size))


if __name__ == "__main__":
    main()
