"""Names and places of the files in a run folder."""

import copy
from pathlib import Path

from sae_lens_abstopk.system.files import write_whole
from sae_lens_abstopk.system.yaml_files import CONFIG_FILENAME
from sae_lens_abstopk.training.config.config_file import dump_config
from sae_lens_abstopk.training.config.training_config import TrainingConfig

METRICS_FILENAME = "metrics.csv"


def sae_folder(folder: Path, name: str) -> Path:
    """Return the folder of the SAE ``name``: a run or checkpoint folder itself, or a companion's subfolder."""
    return folder if name == "sae" else folder / name


def checkpoint_root(cfg: TrainingConfig) -> Path:
    """Return the folder of the run's checkpoints."""
    return Path(cfg.checkpoint_path or Path(cfg.output_path or "") / "checkpoints")


def write_config(folder: Path, cfg: TrainingConfig) -> None:
    """Write the config of a run as a file that starts the same run again."""
    fresh = copy.copy(cfg)
    fresh.resume_from_checkpoint = None
    write_whole(folder / CONFIG_FILENAME, dump_config(fresh))
