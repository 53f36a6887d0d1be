"""Fixtures of the training tests that comparisons use."""

from tests.training.conftest import stop_after

__all__ = ["stop_after"]
