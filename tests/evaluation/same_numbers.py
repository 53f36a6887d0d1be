"""Equality of measurements that may hold NaN."""

from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np
import torch


def assert_same(one: Any, other: Any) -> None:
    """Both are equal, NaN and NaN too, which the ``==`` of dataclasses tells apart since Python 3.13."""
    assert type(one) is type(other)
    pair = (asdict(each, dict_factory=_arrays) if is_dataclass(each) else each for each in (one, other))
    np.testing.assert_equal(*pair)


def _arrays(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value.numpy() if isinstance(value, torch.Tensor) else value for name, value in items}
