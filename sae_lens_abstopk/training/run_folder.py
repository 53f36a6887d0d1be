"""Names and places of the files in a run folder, and the metadata of its SAEs."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sae_lens import TrainingSAE
from sae_lens.constants import SAE_CFG_FILENAME

from sae_lens_abstopk.system.files import write_whole
from sae_lens_abstopk.system.yaml_files import CONFIG_FILENAME
from sae_lens_abstopk.training.config.config_file import dump_config
from sae_lens_abstopk.training.config.training_config import TrainingConfig

METRICS_FILENAME = "metrics.csv"


def sae_folder(folder: Path, name: str) -> Path:
    """Return the folder of the SAE ``name``: a run or checkpoint folder itself, or a companion's subfolder."""
    return folder if name == "sae" else folder / name


def checkpoint_root(cfg: TrainingConfig) -> Path:
    return Path(cfg.checkpoint_path or Path(cfg.output_path or "") / "checkpoints")


def write_config(folder: Path, cfg: TrainingConfig) -> None:
    """Write the config of a run as a file that starts the same run again."""
    fresh = copy.copy(cfg)
    fresh.resume_from_checkpoint = None
    write_whole(folder / CONFIG_FILENAME, dump_config(fresh))


OWN = ("training_architecture", "training_architecture_details", "label", "variant", "lr")
"""Metadata that differ between the SAEs of a run."""


def note_run(saes: Mapping[str, TrainingSAE[Any]], cfg: TrainingConfig, source: dict[str, Any]) -> None:
    """Add the metadata of ``source`` to those of the first SAE, and copy them to the others."""
    common = saes["sae"].cfg.metadata
    n_tokens = cfg.total_training_steps * cfg.train_batch_size_tokens
    of_run = {"training_tokens": n_tokens, "train_batch_size_tokens": cfg.train_batch_size_tokens, "seed": cfg.seed}
    for key, value in (source | of_run).items():
        common[key] = value
    for name, sae in saes.items():
        for key, value in common.items():
            if key not in OWN:
                sae.cfg.metadata[key] = value
        sae.cfg.metadata.label = name
        sae.cfg.metadata.lr = cfg.lr * cfg.lr_multiples.get(name, 1)
        sae.cfg.metadata.seed = cfg.weight_seeds.get(name, cfg.seed)
    architecture = saes["sae"].cfg.architecture().removeprefix("sparse_")
    # a companion may have the name of the architecture
    common.label = common.variant or ("sae" if architecture in saes else architecture)


def keep_variants(saes: Mapping[str, TrainingSAE[Any]], checkpoint: Path) -> None:
    """Restore the variant names of a comparison from ``checkpoint``; its config.yaml does not hold them."""
    for name, sae in saes.items():
        written = json.loads((sae_folder(checkpoint, name) / SAE_CFG_FILENAME).read_text(encoding="utf-8"))
        if variant := written["metadata"].get("variant"):
            sae.cfg.metadata.variant = variant
