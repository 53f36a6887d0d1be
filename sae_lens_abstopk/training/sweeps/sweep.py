"""Sweeps: one file that describes many runs, trained one after the other or as jobs of a cluster."""

import hashlib
import itertools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Len
from pydantic import Field
from rich.console import Console

from sae_lens_abstopk.system.errors import ConfigError, TrainingStopped, require_package
from sae_lens_abstopk.system.terminal import PrintableConsole
from sae_lens_abstopk.system.yaml_files import data_folder, shipped_file, yaml_text
from sae_lens_abstopk.training.checkpoints.resume import is_finished, resume_if_started
from sae_lens_abstopk.training.config.config_file import load_config, named_config, split_variant
from sae_lens_abstopk.training.config.sae_section import conflicting
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.distributed import require_one_process
from sae_lens_abstopk.training.interruption import caused_by_signal
from sae_lens_abstopk.training.sweeps.many_runs import raise_if_failed, require_caches, train_unfinished
from sae_lens_abstopk.training.sweeps.run_files import FileModel
from sae_lens_abstopk.training.train import train

# bytes; file systems allow 255
LONGEST_NAME = 200


class SweepPart(FileModel):
    variants: Annotated[list[str], Len(1)] = Field(default=[""])
    """Variants of the config's preset; "" is the preset itself."""
    grid: dict[str, Annotated[list[Any], Len(1)]] = Field(default={})
    """Values by key."""


class SweepEntry(SweepPart):
    config: str


class SweepFile(SweepPart):
    """A sweep file; its ``variants`` and ``grid`` are the defaults of the entries of ``runs``."""

    runs: Annotated[list[SweepEntry], Len(1)]


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep; ``name`` also names its folder, ``source`` is a config or a preset with its variant."""

    name: str
    source: str
    overrides: tuple[str, ...]

    def config(self, out: Path) -> TrainingConfig:
        """Return the checked config of this run, with its folder in ``out``."""
        cfg = load_config(self.source, [*self.overrides, f"output_path={yaml_text(str(out / self.name))}"])
        if cfg.checkpoint_path is not None:
            cfg.checkpoint_path = str(Path(cfg.checkpoint_path) / self.name)
        return cfg

    def command(self, out: Path) -> str:
        """Return the shell command of this run; a second call resumes the run."""
        root = self.config(out).checkpoint_path
        own = [] if root is None else [f"checkpoint_path={yaml_text(root)}"]
        folder = str(out / self.name)
        return shlex.join(["abstopk", "train", self.source, *self.overrides, *own, "--out", folder, "--resume"])


def load_sweep(source: str, overrides: Sequence[str] = ()) -> list[SweepRun]:
    """
    Return the runs of a sweep file: for each entry of ``runs``, every variant with every point of its grid.

    Raises:
        ConfigError: a key or an entry is wrong, or two runs would have the same folder.
    """
    path = shipped_file(source, data_folder("training_configs") / "sweeps", what="sweep")
    file = SweepFile.read(path)
    runs: dict[str, SweepRun] = {}
    for entry in file.runs:
        grid = file.grid | entry.grid
        for override in overrides:
            _require_effect(override, grid, path)
        config = named_config(entry.config, path)
        for variant in (entry if "variants" in entry.model_fields_set else file).variants:
            for run in _points(f"{config}/{variant}" if variant else config, grid, overrides):
                # some file systems ignore case
                if (other := runs.setdefault(run.name.casefold(), run)) is not run:
                    raise ConfigError(
                        f"{path}: runs of {other.source} and {run.source} would share the folder {run.name!r}; give "
                        "the config files different names or the grids different keys, or remove one listed twice."
                    )
    return list(runs.values())


def _require_effect(override: str, grid: Mapping[str, Sequence[Any]], path: Path) -> None:
    """Raise a :class:`ConfigError` if an override sets a key of the grid or the folder of a run."""
    whole, _, value = override.partition("=")
    section, dot, key = whole.rpartition(".")
    replaced = [whole, *(name for name in grid if name.startswith(f"{whole}."))]
    replaced += [f"{section}{dot}{other}" for other in conflicting(key)]
    if whole == "hook_name" and "{layer}" not in value:
        replaced.append("layer")
    problem = "would give all runs one folder; name the folder of all with --out" if whole == "output_path" else ""
    for name in [name for name in replaced if name in grid]:
        values = ", ".join(map(str, grid[name]))
        problem = f"would replace {name}, which the grid of {path} sets to {values}; change the file"
    if problem:
        raise ConfigError(f"{override!r} {problem}.")


def _points(source: str, grid: Mapping[str, Sequence[Any]], overrides: Sequence[str]) -> Iterator[SweepRun]:
    config, variant = split_variant(source)
    base = "_".join(filter(None, (Path(config).stem if config.endswith((".yaml", ".yml")) else config, variant)))
    for values in itertools.product(*grid.values()):
        point = dict(zip(grid, values, strict=True))
        # no "=" in a folder's name, because commands take NAME=FOLDER
        in_name = [f"{key}-{value}".replace("=", "-") for key, value in point.items()]
        changes = [f"{key}={yaml_text(value)}" for key, value in point.items()]
        yield SweepRun(_folder_name("_".join([base, *in_name])), source, (*changes, *overrides))


def _folder_name(text: str) -> str:
    """Turn ``text`` into a valid folder name; cut a long one and append a digest."""
    name = re.sub(r'[/\\:*?"<>|\x00-\x1f\x7f]', "_", text)
    if len(name.encode()) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{name.encode()[: LONGEST_NAME - 9].decode(errors='ignore')}-{digest}"


def run_sweep(runs: Sequence[SweepRun], out: Path, *, console: Console, dry_run: bool = False) -> None:
    """Check every config, then train the unfinished runs in ``out`` as :func:`.train_unfinished` does."""
    require_one_process("abstopk sweep")
    train_unfinished({run.name: run.config(out) for run in runs}, console=console, dry_run=dry_run)


def unfinished(runs: Sequence[SweepRun], out: Path) -> list[SweepRun]:
    """Return the unfinished runs in ``out``, checked as by :func:`run_sweep`, to train at the same time elsewhere."""
    waiting = [(run, cfg) for run in runs if not is_finished(cfg := run.config(out))]
    require_caches({run.name: cfg for run, cfg in waiting}, at_once=True)
    return [run for run, _ in waiting]


@dataclass(frozen=True)
class SweepJob:
    """A job that trains or resumes one run."""

    run: SweepRun
    out: Path

    def __call__(self) -> None:
        cfg = self.run.config(self.out)
        if not is_finished(cfg):
            resume_if_started(cfg)
            train(cfg, console=PrintableConsole(width=200, markup=False))

    def checkpoint(self) -> Any:
        """Return the job that submitit queues after preemption or timeout: the same job, which resumes."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit_sweep(
    runs: Sequence[SweepRun], out: Path, *, console: Console, cluster: str | None, parameters: Mapping[str, Any]
) -> None:
    """
    Check every config, then submit a job for each unfinished run and print a line for each.

    Logs go into ``jobs`` in ``out``. ``cluster`` is ``"slurm"`` (the default), ``"local"`` (processes on this machine)
    or ``"debug"`` (this process); the last two wait for the jobs. ``parameters`` go to submitit's executor.

    Raises:
        ConfigError: submitit is missing or rejects the cluster or a parameter.
        TrainingStopped: at the end, if jobs on this machine failed.
    """
    require_package("submitit", "--launcher submitit", extra="slurm")
    import submitit
    from submitit.core.utils import UncompletedJobError

    waiting = unfinished(runs, out)
    try:
        executor = submitit.AutoExecutor(folder=out.absolute() / "jobs", cluster=cluster or "slurm")
        executor.update_parameters(name="abstopk", **parameters)
    except (ValueError, TypeError, NameError, RuntimeError, AssertionError) as error:
        raise ConfigError(f"submitit refuses --cluster={cluster or 'slurm'} or a --job parameter: {error}") from error
    jobs = []
    for i, run in enumerate(waiting, 1):
        jobs.append(executor.submit(SweepJob(run, out.absolute())))
        console.print(f"[{i}/{len(waiting)}] {run.name}  job {jobs[-1].job_id}", markup=False)
    if executor.cluster not in ("local", "debug"):
        return
    failed = []
    for run, job in zip(waiting, jobs, strict=True):
        try:
            job.result()
        except (UncompletedJobError, TrainingStopped) as error:
            if caused_by_signal(error):
                raise
            failed.append(run.name)
            last = str(error).strip().splitlines()[-1]
            log = f"(its log: {job.paths.stderr})"
            console.print(f"the job of {run.name} failed: {last} {log}", markup=False, soft_wrap=True)
    raise_if_failed(failed, len(waiting))
