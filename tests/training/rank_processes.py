"""Processes that train together, forked from the tests so that packages are imported once."""

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

# longer than any of them takes, on a slow machine too
SECONDS = 600


def forked(size: int, run: Callable[[int], None]) -> list[int | None]:
    """Exit codes of ``size`` processes that ``run`` with their ranks; whatever happens, none is left behind."""
    processes = [multiprocessing.get_context("fork").Process(target=run, args=(rank,)) for rank in range(size)]
    for process in processes:
        process.start()
    end = time.monotonic() + SECONDS
    try:
        for process in processes:
            process.join(max(0.0, end - time.monotonic()))
        late = [rank for rank, process in enumerate(processes) if process.is_alive()]
        assert not late, f"ranks {late} did not end within {SECONDS} seconds"
    finally:
        for process in processes:
            process.kill()
            process.join()
    return [process.exitcode for process in processes]


def on_ranks(size: int, work: Callable[[], Any], folder: Path) -> list[Any]:
    """What ``work`` returns in each of ``size`` processes that train together; an exception is what it returned."""
    folder.mkdir(parents=True)

    def run(rank: int) -> None:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
        try:
            found: Any = work()
        except BaseException as error:
            found = error
        torch.save(found, folder / f"{rank}.pt")
        dist.destroy_process_group()

    codes = forked(size, run)
    assert codes == [0] * size, f"the ranks ended with exit codes {codes}"
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(size)]
