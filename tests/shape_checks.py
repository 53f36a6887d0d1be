"""Check the shapes of tensors in calls into ``saes`` and ``sparse``, which are imported after this."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import jaxtyping
from beartype import beartype

T = TypeVar("T", bound=Callable[..., Any])


def checked(function: T) -> T:
    """``function`` with its tensors checked at every call; of arguments of a wrong kind, tests want its own error."""
    annotations = inspect.get_annotations(function)
    function.__annotations__ = {name: each if "[Tensor" in str(each) else Any for name, each in annotations.items()}
    return beartype(function)


jaxtyping.install_import_hook(["sae_lens_abstopk.saes", "sae_lens_abstopk.sparse"], "tests.shape_checks.checked")
