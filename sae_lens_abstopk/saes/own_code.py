"""Classes of SAEs that others build on these: what of them is not ours, and the import of their modules."""

import importlib
import os
import sys

from sae_lens_abstopk.errors import ConfigError

VARIABLE = "ABSTOPK_IMPORT"
"""Environment variable that names modules, separated by commas, which register architectures of their own."""


OURS = ("sae_lens", "sae_lens_abstopk")


def is_own(sae: object) -> bool:
    """Whether the class of an SAE is neither SAELens's nor of this package."""
    return type(sae).__module__.partition(".")[0] not in OURS


def is_ours(owner: object, method: str) -> bool:
    """Whether ``owner`` has a method from SAELens or from this package, or none of that name."""
    found = getattr(owner, method, None)
    return found is None or found.__module__.partition(".")[0] in OURS


def import_architectures() -> None:
    """
    Import the modules that the environment variable ``ABSTOPK_IMPORT`` names, found as in ``python`` in this folder.

    Raises:
        ConfigError: one cannot be imported.
    """
    for name in filter(None, (part.strip() for part in os.environ.get(VARIABLE, "").split(","))):
        if name in sys.modules:
            continue
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        try:
            importlib.import_module(name)
        except Exception as error:
            raise ConfigError(
                f"{VARIABLE}={os.environ[VARIABLE]!r}: {name!r} could not be imported ({type(error).__name__}: {error}); name "
                "modules of installed packages, of PYTHONPATH or of this folder."
            ) from error
