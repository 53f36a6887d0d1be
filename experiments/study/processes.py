"""Several runs at a time, each in a process of its own."""

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing import get_context
from os import cpu_count
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# each holds the language model, an SAE with its optimiser and a buffer of activations
MOST_JOBS = 8


def default_jobs() -> int:
    """Runs at a time: one a core, of which there may be many, or one on a GPU."""
    import torch  # late: a process that only works for this one has no need of it

    return 1 if torch.cuda.is_available() else min(cpu_count() or 1, MOST_JOBS)


def in_processes(work: Callable[[Item], Result], items: Sequence[Item], jobs: int) -> Iterator[Result]:
    """
    ``work`` of every item, in their order, as they are done.

    An item is handed on when a process is free for it, so that Ctrl-C, which every process gets, stops those at work and starts
    no other. One job at a time stays in this process.
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
                        future.result()  # an error of a later item ends all too
                new = [pool.submit(_interruptible, work, item) for item in islice(left, jobs - len(running))]
                begun += new
                if begun[number].done():
                    break
                wait(running.union(new), return_when=FIRST_COMPLETED)
            yield begun[number].result()


def _interruptible(work: Callable[[Item], Result], item: Item) -> Result:
    """``work`` of an item; Ctrl-C breaks off what works, and not a process that waits, without which the pool would end the others."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return work(item)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
