"""What is where in a run folder."""

import copy
from pathlib import Path

from sae_lens_abstopk.model.run_record import CONFIG_FILENAME
from sae_lens_abstopk.system.files import write_whole
from sae_lens_abstopk.training.config.config_file import dump_config
from sae_lens_abstopk.training.config.training_config import TrainingConfig

CHECKPOINTS = "checkpoints"
METRICS_FILENAME = "metrics.csv"


def sae_folder(folder: Path, name: str) -> Path:
    """Where the SAE ``name`` is in a run or checkpoint folder: in it, or for a companion in a folder of its name."""
    return folder if name == "sae" else folder / name


def checkpoint_root(cfg: TrainingConfig) -> Path:
    """The folder that the checkpoints of the run are in."""
    return Path(cfg.checkpoint_path or Path(cfg.output_path or "") / CHECKPOINTS)


def under_checkpoint_path(cfg: TrainingConfig, name: str) -> TrainingConfig:
    """One of several runs of a config, with a folder of its own in the ``checkpoint_path`` that they share, if there is one."""
    if cfg.checkpoint_path is not None:
        cfg.checkpoint_path = str(Path(cfg.checkpoint_path) / name)
    return cfg


def write_config(folder: Path, cfg: TrainingConfig) -> None:
    """Write the config of a run, whole or not at all, so that the file starts the run anew."""
    anew = copy.copy(cfg)
    anew.resume_from_checkpoint = None
    write_whole(folder / CONFIG_FILENAME, dump_config(anew))
