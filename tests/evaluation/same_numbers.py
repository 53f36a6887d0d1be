"""Equality of measurements that may hold NaN."""

from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np


def assert_same(one: Any, other: Any) -> None:
    """Both are equal, NaN and NaN too, which the ``==`` of dataclasses tells apart since Python 3.13."""
    assert type(one) is type(other)
    np.testing.assert_equal(*(asdict(each) if is_dataclass(each) else each for each in (one, other)))
