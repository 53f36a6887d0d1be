"""Reading ahead in a thread."""

import threading
import time
from collections.abc import Iterator

import pytest

from sae_lens_abstopk.training.prefetch import prefetched


def test_items_come_in_order_and_no_more_than_the_depth_ahead() -> None:
    produced: list[int] = []

    def source() -> Iterator[int]:
        for i in range(20):
            produced.append(i)
            yield i

    for i, item in enumerate(prefetched(source(), 3)):
        assert item == i
        time.sleep(0.002)
        assert len(produced) <= i + 6  # three waiting, one in the hands of each side, one being made


def test_an_error_arrives_where_its_item_was_due() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ValueError("torn page")

    items = prefetched(source(), 4)
    assert next(items) == 1
    with pytest.raises(ValueError, match="torn page"):
        next(items)


def test_the_thread_ends_when_the_iterator_is_dropped() -> None:
    def endless() -> Iterator[int]:
        while True:
            yield 0

    items = prefetched(endless(), 2)
    next(items)
    assert any(thread.name == "prefetch" for thread in threading.enumerate())
    items.close()  # type: ignore[attr-defined]
    assert not any(thread.name == "prefetch" for thread in threading.enumerate())
