"""Run several items at a time, each in its own process."""

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing import get_context
from os import cpu_count
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# each job holds the language model, an SAE with its optimiser, and a buffer of activations
MOST_JOBS = 8


def default_jobs() -> int:
    """Return one job per core, at most eight, or one on a GPU."""
    import torch  # not needed in the worker processes

    return 1 if torch.cuda.is_available() else min(cpu_count() or 1, MOST_JOBS)


def in_processes(work: Callable[[Item], Result], items: Sequence[Item], jobs: int) -> Iterator[Result]:
    """
    Yield ``work`` of every item, in order, as soon as it is done; a single job runs in this process.

    Items are submitted only to free processes, so that Ctrl-C, which every process gets, starts no other item.
    """
    jobs = min(jobs, len(items))
    if jobs <= 1:
        yield from map(work, items)
        return
    left, begun = iter(items), list[Future[Result]]()
    with ProcessPoolExecutor(jobs, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        for number in range(len(items)):
            while True:
                running = {future for future in begun if not future.done()}
                for future in begun:
                    if future not in running:
                        future.result()  # raises the error of any item
                new = [pool.submit(_interruptible, work, item) for item in islice(left, jobs - len(running))]
                begun += new
                if begun[number].done():
                    break
                wait(running.union(new), return_when=FIRST_COMPLETED)
            yield begun[number].result()


def _interruptible(work: Callable[[Item], Result], item: Item) -> Result:
    """Run ``work`` with Ctrl-C enabled; a waiting process ignores it, else the pool would kill all others."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return work(item)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
