"""Check the shapes and types of calls into ``saes`` and ``sparse``, which are imported after this."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import jaxtyping
from beartype import BeartypeConf, beartype

T = TypeVar("T", bound=Callable[..., Any])
_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float


def checked(function: T) -> T:
    """``function`` with its arguments and result checked at every call, where it says the shape of a tensor."""
    annotations = map(str, inspect.get_annotations(function).values())
    return _beartype(function) if any("[Tensor" in each for each in annotations) else function


jaxtyping.install_import_hook(["sae_lens_abstopk.saes", "sae_lens_abstopk.sparse"], "tests.shape_checks.checked")
