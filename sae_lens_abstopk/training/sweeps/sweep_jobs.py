"""Submit the runs of a sweep as jobs of a cluster through submitit, one job a run."""

import importlib.util
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from sae_lens_abstopk.system.errors import ConfigError, TrainingStopped
from sae_lens_abstopk.system.terminal import PrintableConsole
from sae_lens_abstopk.training.checkpoints.resume import is_finished, resume_if_started
from sae_lens_abstopk.training.interruption import caused_by_signal
from sae_lens_abstopk.training.sweeps.many_runs import raise_if_failed
from sae_lens_abstopk.training.sweeps.sweep import SweepRun, unfinished
from sae_lens_abstopk.training.train import train


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
    runs: Sequence[SweepRun],
    out: Path,
    *,
    console: Console,
    cluster: str | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> None:
    """
    Check every config, then submit a job for each unfinished run and print a line for each.

    Logs of the jobs go into ``jobs`` in ``out``. ``cluster`` is ``"slurm"`` (the default), ``"local"`` (processes on
    this machine) or ``"debug"`` (this process); the last two wait for the jobs. ``parameters`` go to submitit's
    executor, such as ``timeout_min``, ``gpus_per_node`` and ``slurm_partition``.

    Raises:
        ConfigError: submitit is missing or rejects the cluster or a parameter.
        TrainingStopped: after all jobs on this machine have ended, if some failed.
    """
    if importlib.util.find_spec("submitit") is None:
        raise ConfigError("--launcher submitit needs submitit: pip install 'sae-lens-abstopk[slurm]'.")
    import submitit
    from submitit.core.utils import UncompletedJobError

    if cluster is None and shutil.which("srun") is None:
        raise ConfigError("there is no Slurm on this machine (no srun); name another cluster: --cluster local.")
    waiting = unfinished(runs, out)
    try:
        executor = submitit.AutoExecutor(folder=out.absolute() / "jobs", cluster=cluster)
        executor.update_parameters(name="abstopk", **(parameters or {}))
    except (ValueError, TypeError, NameError, RuntimeError, AssertionError) as error:
        raise ConfigError(f"submitit refuses --cluster or a --job parameter: {error}") from error
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
