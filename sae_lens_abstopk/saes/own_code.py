"""Users' own architectures: the import of their modules, and the methods that their subclasses change."""

import importlib
import os
import sys

from sae_lens_abstopk.system.errors import ConfigError

VARIABLE = "ABSTOPK_IMPORT"
"""Environment variable with the modules' names, separated by commas."""


def import_architectures() -> None:
    """Import the modules in ``ABSTOPK_IMPORT``; the current folder is on the path."""
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


def overridden(sae: object, base: type, methods: tuple[str, ...]) -> list[str]:
    """Return the ``methods`` that ``sae`` overrides, itself or in a subclass of ``base``."""
    mro = type(sae).__mro__
    scopes = [vars(sae), *(vars(each) for each in mro[: mro.index(base)])]
    return [method for method in methods if any(method in scope for scope in scopes)]
