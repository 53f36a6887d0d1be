"""Equality of measurements that may hold NaN."""

from dataclasses import asdict
from typing import Any

import numpy as np


def assert_same(one: Any, other: Any) -> None:
    """Every field of two dataclasses is the same, NaN and NaN too, which their ``==`` tells apart since Python 3.13."""
    assert type(one) is type(other)
    np.testing.assert_equal(asdict(one), asdict(other))
