"""The record of a training run: the ``config.yaml`` in its folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sae_lens.constants import SAE_CFG_FILENAME

from sae_lens_abstopk.system.yaml_files import read_yaml

CONFIG_FILENAME = "config.yaml"
"""Name of the config in a run folder."""


def run_configs(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """
    Yield the path and the keys of the configs in the folder of an SAE and in the folder above it, nearest first.

    Files without the keys ``sae`` and ``hook_name`` belong to other tools and are skipped; a folder without an SAE has
    no configs. A relative ``dataset_path`` that exists beside the file is resolved.
    """
    for path in (folder / CONFIG_FILENAME, folder.parent / CONFIG_FILENAME):
        if not (folder / SAE_CFG_FILENAME).is_file() or not path.is_file():
            continue
        raw = read_yaml(path)
        if {"sae", "hook_name"} <= raw.keys():
            yield path, with_dataset_beside(path.parent, raw)


def with_dataset_beside(folder: Path, raw: dict[str, Any]) -> dict[str, Any]:
    """Resolve a relative ``dataset_path`` that exists in ``folder``, the config file's folder."""
    dataset = raw.get("dataset_path")
    if isinstance(dataset, str) and dataset and (folder / dataset).exists():
        raw["dataset_path"] = str((folder / dataset).resolve())
    return raw
