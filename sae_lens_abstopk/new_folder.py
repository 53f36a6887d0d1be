"""Folders that are written as a whole are not written among what is there."""

from pathlib import Path

from sae_lens_abstopk.errors import ConfigError


def require_empty(folder: Path) -> None:
    """
    Raises:
        ConfigError: there is something in ``folder``, or it is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is not an empty folder; give another with --out, or empty it.")
