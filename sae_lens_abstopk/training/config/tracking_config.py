"""The section ``logger`` of a config: SAELens's, with MLflow and TensorBoard, checked when it is made."""

import importlib.util
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sae_lens import LoggingConfig
from typing_extensions import override

from sae_lens_abstopk.system.errors import ConfigError, require_range
from sae_lens_abstopk.system.typed_values import require_types
from sae_lens_abstopk.training.config.checks import require_default

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
        mlflow_tracking_uri (str, optional): Server or database; by default MLFLOW_TRACKING_URI, else ./mlflow.db.
        mlflow_experiment (str): MLflow experiment; made if it is not there.
        log_to_tensorboard (bool): Write event files into the run folder (pip install 'sae-lens-abstopk[tensorboard]').
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
        require_range("logger.wandb_log_frequency", self.wandb_log_frequency, at_least=1)
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
        """Raise a :class:`ConfigError` if a tracker's package is missing."""
        for package in ("mlflow", "tensorboard"):
            if getattr(self, f"log_to_{package}") and importlib.util.find_spec(package) is None:
                raise ConfigError(
                    f"logger.log_to_{package}=true needs {package}: pip install 'sae-lens-abstopk[{package}]'."
                )
