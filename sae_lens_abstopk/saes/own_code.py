"""Classes of SAEs that others build on these: what of them is not ours, and the import of their modules."""

import importlib
import os
import sys

from sae_lens_abstopk.system.errors import ConfigError

VARIABLE = "ABSTOPK_IMPORT"
"""Environment variable that names modules, separated by commas, which register architectures of their own."""


def is_foreign(module: str) -> bool:
    """Whether a module is neither SAELens's nor of this package."""
    return module.partition(".")[0] not in ("sae_lens", "sae_lens_abstopk")


def has_foreign(owner: object, method: str) -> bool:
    """Whether ``owner`` has a method of this name from a module elsewhere."""
    found = getattr(owner, method, None)
    return found is not None and is_foreign(found.__module__)


def import_architectures() -> None:
    """
    Import the modules that the environment variable ``ABSTOPK_IMPORT`` names, found as in ``python`` in this folder.

    Raises:
        ConfigError: one cannot be imported.
    """
    named = os.environ.get(VARIABLE, "")
    for name in filter(None, (part.strip() for part in named.split(","))):
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        try:
            importlib.import_module(name)
        except Exception as error:
            raise ConfigError(
                f"{VARIABLE}={named!r}: {name!r} could not be imported ({type(error).__name__}: {error}); name "
                "modules of installed packages, of PYTHONPATH or of this folder."
            ) from error
