"""Reading ahead in a thread."""

import threading
from collections.abc import Iterator
from queue import Empty, Full, Queue
from typing import Any, TypeVar

Item = TypeVar("Item")
END = object()
WAIT_SECONDS = 0.1


def prefetched(source: Iterator[Item], depth: int) -> Iterator[Item]:
    """
    The items of ``source``, produced in a thread up to ``depth`` ahead of their use.

    An exception of ``source`` is raised where its next item was due. The thread ends with the iterator.
    """
    queue: Queue[Any] = Queue(maxsize=depth)
    abandoned = threading.Event()

    def put(item: object) -> None:
        while not abandoned.is_set():
            try:
                queue.put(item, timeout=WAIT_SECONDS)
                return
            except Full:
                continue

    def produce() -> None:
        try:
            for item in source:
                put((item, None))
                if abandoned.is_set():
                    return
            put((END, None))
        except BaseException as error:  # raised where it can be handled
            put((END, error))

    worker = threading.Thread(target=produce, name="prefetch", daemon=True)
    worker.start()
    try:
        while True:
            try:
                item, error = queue.get(timeout=WAIT_SECONDS)
            except Empty:
                continue
            if error is not None:
                raise error
            if item is END:
                return
            yield item
    finally:
        abandoned.set()
        worker.join()
