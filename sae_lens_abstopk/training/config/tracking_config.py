"""The section ``logger`` of a config: SAELens's, with MLflow and TensorBoard, checked when it is made."""

import importlib.util
import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sae_lens import LoggingConfig
from typing_extensions import override

from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.typed_values import require_types
from sae_lens_abstopk.training.config.run_checks import require_default

WITHOUT_EFFECT = {
    "eval_every_n_wandb_logs": "perf_log_freq says after how many steps Loss Recovered is measured",
    "log_activations_store_to_wandb": "checkpoints hold the position and the mixing buffer (checkpoint_freq)",
    "log_optimizer_state_to_wandb": "the state of the optimiser is in the checkpoints (checkpoint_freq)",
}
"""Keys of SAELens's logger that a run does not read, each with its replacement."""


@dataclass
class TrackingConfig(LoggingConfig):
    """
    SAELens's ``LoggingConfig`` with MLflow and TensorBoard.

    Args:
        log_to_wandb (bool): Log to Weights & Biases.
        log_to_mlflow (bool): Log to MLflow (pip install 'sae-lens-abstopk[mlflow]'), one MLflow run for each SAE.
        mlflow_tracking_uri (str, optional): Server or database (sqlite:///runs.db) that MLflow writes to; by default
            that of the variable MLFLOW_TRACKING_URI, else mlflow.db in the current folder.
        mlflow_experiment (str): MLflow experiment; made if it is not there.
        log_to_tensorboard (bool): Write TensorBoard event files into the run folder (pip install
            'sae-lens-abstopk[tensorboard]').
    """

    log_to_wandb: bool = False
    log_to_mlflow: bool = False
    mlflow_tracking_uri: str | None = None
    mlflow_experiment: str = "sae_lens_training"
    log_to_tensorboard: bool = False

    def __post_init__(self) -> None:
        require_types(self, prefix="logger.")
        for key, instead in WITHOUT_EFFECT.items():
            require_default(self, key, instead, section="logger.")
        if self.wandb_log_frequency < 1:
            raise ConfigError(f"logger.wandb_log_frequency={self.wandb_log_frequency!r} must be at least 1.")
        uri = urlsplit(self.mlflow_tracking_uri or "")
        # the part before the @ of a server may be a token; the user of a database is not a secret
        if uri.password is not None or (uri.username is not None and uri.scheme in ("http", "https")):
            raise ConfigError(
                "logger.mlflow_tracking_uri holds a user name, password or token (before the @), which would be "
                "written into the run folder and logged. Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD "
                "instead."
            )

    @override
    def log(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: SAELens logs the final files before they are whole; :class:`.WandbLogger` logs them after."""

    def require_packages(self) -> None:
        """
        Raise if a tracker's package is missing, or if MLflow does not accept a folder as its URI.

        Raises:
            ConfigError: naming the key and the remedy.
        """
        for package in ("mlflow", "tensorboard"):
            if getattr(self, f"log_to_{package}") and importlib.util.find_spec(package) is None:
                raise ConfigError(
                    f"logger.log_to_{package}=true needs {package}: pip install 'sae-lens-abstopk[{package}]'."
                )
        uri = self.mlflow_tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        if self.log_to_mlflow and uri and _is_unsupported_folder(uri):
            key = "logger.mlflow_tracking_uri" if self.mlflow_tracking_uri else "MLFLOW_TRACKING_URI"
            raise ConfigError(
                f"{key}={uri!r} is a folder, which the installed MLflow does not write to; give a server or a database "
                "such as sqlite:///runs.db, or set the variable MLFLOW_ALLOW_FILE_STORE=true."
            )


def _is_unsupported_folder(uri: str) -> bool:
    if urlsplit(uri).scheme not in ("", "file") or uri == "databricks":
        return False
    from mlflow import environment_variables

    # versions of MLflow without this variable accept folders
    allowed = getattr(environment_variables, "MLFLOW_ALLOW_FILE_STORE", None)
    return allowed is not None and not allowed.get()


def require_tracking_config(logger: object) -> None:
    """Raise a :class:`ConfigError` if ``logger`` is of another class than :class:`TrackingConfig`."""
    if type(logger) is not TrackingConfig:  # copies would lose a subclass
        raise ConfigError(
            f"logger={type(logger).__name__}(...) must be a TrackingConfig itself, from "
            "sae_lens_abstopk.training.config.tracking_config; it takes the same arguments."
        )
