"""Training many runs one after the other: a run that stops itself takes no other with it."""

from collections.abc import Mapping

from rich.console import Console

from sae_lens_abstopk.errors import TrainingStopped
from sae_lens_abstopk.training.config import TrainingConfig
from sae_lens_abstopk.training.interruption import came_of_a_signal
from sae_lens_abstopk.training.resume import is_finished, resume_if_started
from sae_lens_abstopk.training.runner import train


def train_unfinished(configs: Mapping[str, TrainingConfig], *, console: Console, dry_run: bool = False) -> None:
    """
    Train the runs that are not finished, by name; with ``dry_run`` only list them.

    A run that was stopped goes on from its newest checkpoint. One that stops itself is passed over; Ctrl-C and SIGTERM end
    all.

    Raises:
        ConfigError: before any is trained, if the folder of one holds a run with other settings.
        TrainingStopped: at the end, naming the runs that stopped themselves.
    """
    finished = [is_finished(cfg) for cfg in configs.values()]
    stopped = []
    for i, ((name, cfg), done) in enumerate(zip(configs.items(), finished, strict=True), 1):
        console.print(f"[{i}/{len(configs)}] {name}{'  done' if done else ''}", markup=False, highlight=False)
        if done or dry_run:
            continue
        resume_if_started(cfg)
        try:
            train(cfg, console=console)
        except TrainingStopped as error:
            if came_of_a_signal(error):
                raise
            stopped.append(name)
            console.print(f"{name} stopped: {error}", markup=False, highlight=False, soft_wrap=True)
    refuse_stopped(stopped, len(configs))


def refuse_stopped(names: list[str], n_runs: int) -> None:
    """
    End a command that has gone through ``n_runs`` runs, where some stopped themselves.

    Raises:
        TrainingStopped: with their names.
    """
    if names:
        raise TrainingStopped(
            f"{len(names)} of {n_runs} runs stopped early: {', '.join(names)}. The reason for each is printed above; fix it, "
            "then run the same command again, which resumes only these."
        )
