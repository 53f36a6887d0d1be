"""What every SAE of a run notes about it, beside what SAELens notes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sae_lens import TrainingSAE
from sae_lens.constants import SAE_CFG_FILENAME

from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.run_folder import sae_folder

OWN = ("training_architecture", "training_architecture_details", "label", "variant", "lr")
"""Metadata that each SAE has for itself."""


def note_run(saes: Mapping[str, TrainingSAE[Any]], cfg: TrainingConfig, source: Mapping[str, Any]) -> None:
    """
    Add to what SAELens notes about the first SAE, and note it in all of them.

    Args:
        saes: By name, ``"sae"`` first.
        cfg: Of the run.
        source: The metadata of the activations.
    """
    common = saes["sae"].cfg.metadata
    for key, value in source.items():
        common[key] = value
    common.training_tokens = cfg.total_training_steps * cfg.train_batch_size_tokens
    common.train_batch_size_tokens = cfg.train_batch_size_tokens
    common.seed = cfg.seed
    for name, sae in saes.items():
        for key, value in common.items():
            if key not in OWN:
                sae.cfg.metadata[key] = value
        sae.cfg.metadata.label = name
        sae.cfg.metadata.lr = cfg.lr * cfg.lr_multiples.get(name, 1)
    architecture = saes["sae"].cfg.architecture().removeprefix("sparse_")
    # a companion may have the name of the architecture
    common.label = common.variant or ("sae" if architecture in saes else architecture)


def keep_variants(saes: Mapping[str, TrainingSAE[Any]], checkpoint: Path) -> None:
    """Give SAEs the names that a comparison had for them when ``checkpoint`` was written; its config.yaml does not hold these."""
    for name, sae in saes.items():
        written = json.loads((sae_folder(checkpoint, name) / SAE_CFG_FILENAME).read_text(encoding="utf-8"))
        if variant := written["metadata"].get("variant"):
            sae.cfg.metadata.variant = variant
