"""The browser of the explorer's tests, to open a page of axes with."""

from tests.explorer.conftest import browser

__all__ = ["browser"]
