"""Users' own architectures: the import of their modules, and the methods that their subclasses change."""

import importlib
import os
import sys

from sae_lens_abstopk.system.errors import ConfigError

VARIABLE = "ABSTOPK_IMPORT"
"""Environment variable that names such modules, separated by commas."""


def import_architectures() -> None:
    """Import the modules that ``ABSTOPK_IMPORT`` names, found as in ``python`` in this folder."""
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
    """Those of ``methods`` that ``sae`` defines anew, by itself or in a class below ``base``."""
    mro = type(sae).__mro__
    scopes = [vars(sae), *(vars(each) for each in mro[: mro.index(base)])]
    return [method for method in methods if any(method in scope for scope in scopes)]
