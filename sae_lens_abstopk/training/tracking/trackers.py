"""Trackers outside the run folder: Weights & Biases, MLflow, TensorBoard."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import wandb
from sae_lens import LoggingConfig, SAETrainer
from sae_lens.constants import SAE_WEIGHTS_FILENAME

from sae_lens_abstopk.system.yaml_files import flat_keys
from sae_lens_abstopk.training.config.training_config import TrackingConfig, TrainingConfig
from sae_lens_abstopk.training.interruption import caused_by_signal
from sae_lens_abstopk.training.tracking.loggers import COLUMNS, MetricLogger, failure_note

ARTEFACTS = (
    *("cfg.json", "config.yaml", "metrics.csv", "README.md", "runner_cfg.json"),
    *(SAE_WEIGHTS_FILENAME, "sparsity.safetensors"),
)
"""Files of a run folder that a tracker uploads."""
WANDB_ID, MLFLOW_ID = ".wandb-id", ".mlflow-id"
"""Files of a run folder with the id of its W&B run, and of the MLflow run of its SAE."""
# MLflow accepts a hundred parameters at a time, and no longer values
_PARAMETERS_AT_ONCE, _LONGEST_PARAMETER = 100, 500


class WandbLogger:
    """Logger to the open Weights & Biases run; uploads the files of the SAE's run folder as an artifact at the end."""

    def __init__(self, cfg: TrackingConfig, folder: Path, *, artifact: str, prefix: str = "") -> None:
        self._folder, self._prefix = folder, prefix
        self._artifact = re.sub(r"[^A-Za-z0-9_.-]+", "_", artifact)[:128]  # the longest name in W&B
        self._files = [name for name in ARTEFACTS if cfg.log_weights_to_wandb or name != SAE_WEIGHTS_FILENAME]
        for key in (*COLUMNS[1:], "losses/*", "metrics/*"):
            wandb.define_metric(f"{prefix}{key}", step_metric="step")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        # W&B's own step only rises, so a second training in the caller's W&B run would lose its rows
        wandb.log({"step": step, **{f"{self._prefix}{key}": value for key, value in metrics.items()}})

    def close(self) -> None:
        if not (self._folder / SAE_WEIGHTS_FILENAME).is_file():
            return
        artifact = wandb.Artifact(self._artifact, type="model")
        for name in self._files:
            if (self._folder / name).is_file():
                artifact.add_file(str(self._folder / name))
        wandb.log_artifact(artifact, aliases=["final_model"])


class MlflowLogger:
    """Logger to one MLflow run, the folder's if it ``goes_on``: parameters, metrics, and the files at the end."""

    def __init__(
        self, cfg: TrackingConfig, name: str, folder: Path, parameters: Mapping[str, Any], *, goes_on: bool
    ) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        uri = cfg.mlflow_tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        # a request fails after half a minute; with MLflow's own 7 retries all SAEs would wait four minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")
        self._folder = folder
        self._client = MlflowClient(tracking_uri=uri or f"sqlite:///{Path.cwd() / 'mlflow.db'}")
        noted = folder / MLFLOW_ID
        if goes_on and noted.is_file() and self._reopened(run_id := noted.read_text(encoding="utf-8")):
            self._run = run_id
            return
        # MLflow's own default is a folder mlruns in the current one
        files = None if uri else (Path(parameters["output_path"]).resolve().parent / "mlartifacts").as_uri()
        self._run = self._client.create_run(self._experiment(cfg.mlflow_experiment, files), run_name=name).info.run_id
        noted.write_text(self._run, encoding="utf-8")
        flat = [Param(key, str(value)[:_LONGEST_PARAMETER]) for key, value in flat_keys(parameters).items()]
        for start in range(0, len(flat), _PARAMETERS_AT_ONCE):
            self._client.log_batch(self._run, params=flat[start : start + _PARAMETERS_AT_ONCE])

    def _experiment(self, name: str, files: str | None) -> str:
        """Return the id of an experiment, made if missing; another run may make it at the same time."""
        from mlflow.exceptions import MlflowException

        if (found := self._client.get_experiment_by_name(name)) is None:
            try:
                return self._client.create_experiment(name, artifact_location=files)
            except MlflowException:
                if (found := self._client.get_experiment_by_name(name)) is None:
                    raise
        return found.experiment_id

    def _reopened(self, run_id: str) -> bool:
        """Continue a run; return False if the server does not have it or it was deleted."""
        from mlflow.exceptions import MlflowException

        try:
            active = self._client.get_run(run_id).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            active = False
        if active:
            self._client.update_run(run_id, status="RUNNING")
        return active

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._run, metrics=[Metric(key, float(v), now, step) for key, v in metrics.items()])

    def close(self) -> None:
        for name in ARTEFACTS:
            if (self._folder / name).is_file():
                self._client.log_artifact(self._run, str(self._folder / name))
        is_whole = (self._folder / SAE_WEIGHTS_FILENAME).is_file()
        ended = "KILLED" if caused_by_signal(sys.exception()) else "FAILED"
        self._client.set_terminated(self._run, "FINISHED" if is_whole else ended)


class TensorBoardLogger:
    """Writer of TensorBoard event files in the SAE's run folder, with the config as text."""

    def __init__(self, folder: Path, config: Mapping[str, Any], first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # hides steps after the checkpoint that the run went back to
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step)
        self._writer.add_text("config", "\n".join(f"    {key}: {value}" for key, value in flat_keys(config).items()))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        for key, value in metrics.items():
            self._writer.add_scalar(key, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def open_trackers(
    cfg: TrainingConfig, trainer: SAETrainer[Any, Any], label: str, folder: Path, warn: Callable[[str], object]
) -> list[MetricLogger]:
    """Open the trackers of one SAE, by its ``label`` and ``folder``; warn about those that cannot be opened."""
    of_sae = {"sae": trainer.sae.cfg.to_dict(), "lr": trainer.cfg.lr, "lr_end": trainer.cfg.lr_end}
    config = cfg.to_dict() | {key: {} for key in ("companions", "lr_multiples", "weight_seeds")} | of_sae
    wanted: dict[str, Callable[[], MetricLogger]] = {}
    logger, steps = cfg.logger, trainer.n_training_steps
    run_name = _run_name(logger, Path(cfg.output_path or ""))
    if logger.log_to_wandb and wandb.run is not None:
        artifact = f"sae_{run_name}_{label}_{Path(cfg.model_name).name}_{cfg.hook_name}"
        prefix = f"{label}/" if cfg.companions else ""
        wanted["WandbLogger"] = lambda: WandbLogger(logger, folder, artifact=artifact, prefix=prefix)
    if logger.log_to_mlflow:
        name = f"{run_name}/{label}" if cfg.companions else run_name
        wanted["MlflowLogger"] = lambda: MlflowLogger(logger, name, folder, config, goes_on=steps > 0)
    if logger.log_to_tensorboard:
        wanted["TensorBoardLogger"] = lambda: TensorBoardLogger(folder, config, first_step=steps + 1)
    opened = []
    for kind, open_one in wanted.items():
        try:
            opened.append(open_one())
        except Exception as error:  # an unreachable server must not stop a run
            warn(failure_note(kind, error))
    return opened


@contextmanager
def wandb_run(
    cfg: LoggingConfig, folder: Path, config: dict[str, Any], *, goes_on: bool, warn: Callable[[str], object]
) -> Iterator[None]:
    """
    Open a Weights & Biases run, or continue that of ``cfg`` or the run folder; if that fails, warn and go without.

    A W&B run that the caller has opened gets the config and stays open.
    """
    of_caller, noted, run_id = wandb.run, folder / WANDB_ID, cfg.wandb_id
    if goes_on and run_id is None and noted.is_file():
        run_id = noted.read_text(encoding="utf-8")
    try:
        if of_caller is not None:
            of_caller.config.update(config, allow_val_change=True)
        run = of_caller or wandb.init(
            project=cfg.wandb_project,
            entity=cfg.wandb_entity,
            config=config,
            name=_run_name(cfg, folder),
            id=run_id,
            resume="allow" if goes_on else None,
        )
        noted.write_text(run.id, encoding="utf-8")
    except Exception as error:  # no API key, or an unreachable server
        warn(failure_note("Weights & Biases", error))
    try:
        yield
    finally:
        try:
            if of_caller is None:
                wandb.finish(exit_code=0 if (folder / SAE_WEIGHTS_FILENAME).is_file() else 1)
        except Exception as error:  # the W&B process has died
            warn(failure_note("Weights & Biases", error))


def _run_name(cfg: LoggingConfig, output: Path) -> str:
    return cfg.run_name or output.resolve().name
