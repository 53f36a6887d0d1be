"""The cache folder."""

import os
from pathlib import Path

from sae_lens_abstopk.system.errors import ConfigError


def cache_folder() -> Path:
    """
    Return ``ABSTOPK_CACHE``, or a folder in the user's cache.

    Raises:
        ConfigError: the variable is not set, and the user has no home folder.
    """
    if own := os.environ.get("ABSTOPK_CACHE"):
        return Path(os.path.expanduser(own))
    try:
        return Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")) / "sae-lens-abstopk"
    except RuntimeError as error:
        raise ConfigError("there is no home folder for the cache; set ABSTOPK_CACHE to a folder.") from error
