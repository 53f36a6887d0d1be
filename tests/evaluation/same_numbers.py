"""Equality of measurements that may hold NaN."""


def assert_same(one: object, other: object) -> None:
    """Every number is the same, NaN and NaN too, which ``==`` of dataclasses tells apart since Python 3.13."""
    assert repr(one) == repr(other)
