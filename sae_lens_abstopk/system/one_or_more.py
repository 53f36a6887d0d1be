"""Arguments that take one value or several."""

from collections.abc import Iterable
from typing import TypeVar, cast

from pydantic import BaseModel
from torch import nn

T = TypeVar("T")


def one_or_more(given: T | Iterable[T]) -> list[T]:
    """
    A list of what was given; a text is one value, not its characters, and so are modules and records that can be
    iterated over.
    """
    one = isinstance(given, str | nn.Module | BaseModel) or not isinstance(given, Iterable)
    return [cast(T, given)] if one else list(cast(Iterable[T], given))
