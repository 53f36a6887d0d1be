"""Arguments that take one value or several."""

from collections.abc import Iterable
from typing import TypeVar, cast

from pydantic import BaseModel
from torch import nn

T = TypeVar("T")


def one_or_more(given: T | Iterable[T]) -> list[T]:
    """
    Return ``given`` as a list; a string, an iterable module and a record are each one value.
    """
    one = isinstance(given, str | nn.Module | BaseModel) or not isinstance(given, Iterable)
    return [cast(T, given)] if one else list(cast(Iterable[T], given))
