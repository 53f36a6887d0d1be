"""Copies of an SAE that differ in their metadata."""

import shutil
from pathlib import Path
from typing import Any

from sae_lens import SAE


def with_metadata(source: Path, folder: Path, **metadata: Any) -> Path:
    """A copy of an SAE that says something else of its training."""
    sae = SAE.load_from_disk(source)
    for key, value in metadata.items():
        sae.cfg.metadata[key] = value
    shutil.copytree(source, folder)
    sae.save_model(folder)
    return folder
