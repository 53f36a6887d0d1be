"""Processes that train together, forked from the tests so that packages are imported once."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


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

    processes = [multiprocessing.get_context("fork").Process(target=run, args=(rank,)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(size)]
