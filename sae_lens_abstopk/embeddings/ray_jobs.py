"""Parts of an output on Ray Data: each worker loads its own models, and a part whose worker dies is made again."""

import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console

from sae_lens_abstopk.embeddings.parquet_parts import Shard, Work, Written, missing_parts, write_rows
from sae_lens_abstopk.system.errors import ConfigError, require_package
from sae_lens_abstopk.system.terminal import passes_bar

# rows of a part
PART_ROWS = 65_536
# a part may take that long; a worker that dies at every try is given up after it
PART_SECONDS = 6 * 3600

# Ray sends usage statistics and prints notes of its own processes unless these are set before it starts; under
# `uv run` it would make another environment for its workers, from the folder of the shell
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}


class PartWriter:
    """
    A worker: loads its models with its first part, and writes one part after another.

    An error that a user can fix is a value of the result, because Ray logs the traceback of an exception.
    """

    def __init__(self, make: Callable[[], Work], folder: Path, total: int, started_in: Path) -> None:
        if started_in.is_dir():
            os.chdir(started_in)  # relative paths are those of the user's shell
        self._make, self._folder, self._total = cache(make), folder, total

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Write the part of a batch of one."""
        shard = Shard(int(batch["number"][0]), self._total)
        try:
            work = self._make()
            rows = shard.rows(work.rows.n_rows)
            n_empty = write_rows(work, rows, self._folder / shard.file_name)
        except ConfigError as error:
            return {"n_rows": [0], "n_empty": [0], "error": [str(error)]}
        return {"n_rows": [len(rows)], "n_empty": [n_empty], "error": [""]}


def run_on_ray(title: str, make: Callable[[], Work], folder: Path, *, n_workers: int, console: Console) -> Written:
    """
    Write the missing parts of an output into ``folder``, which all machines share.

    A Ray that runs already (``RAY_ADDRESS``, or ``ray.init`` before) is used; else one starts on this machine.

    Args:
        make: Loads models and opens the rows, here to check them, and on each worker.
        n_workers: 0 takes one worker for each GPU of the cluster, or for each core if it has none.

    Raises:
        ConfigError: Ray is missing, ``make`` raises, ``folder`` holds something else, or a value cannot be used.
    """
    require_package("ray", "--ray")
    work = make()
    n_rows, total = work.rows.n_rows, math.ceil(work.rows.n_rows / PART_ROWS)
    shards = [Shard(number, total) for number in range(1, total + 1)]
    missing = missing_parts(work, shards, folder)
    n_made, n_empty, n_wanted = 0, 0, sum(len(shard.rows(n_rows)) for shard in missing)
    if missing:
        with _ray() as ray, passes_bar(console, title) as on_progress:
            on_progress(0, n_wanted)
            kinds = ray.cluster_resources()
            kind = "GPU" if kinds.get("GPU") else "CPU"
            n_workers = min(n_workers or int(kinds[kind]), len(missing))
            results = ray.data.from_items(
                [{"number": shard.number} for shard in missing], override_num_blocks=len(missing)
            ).map_batches(
                PartWriter,
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=n_workers),
                fn_constructor_args=(make, folder, total, Path.cwd()),
                **{f"num_{kind.lower()}s": 1},
            )
            for result in results.iter_rows():
                if result["error"]:
                    raise ConfigError(result["error"])
                n_made, n_empty = n_made + result["n_rows"], n_empty + result["n_empty"]
                on_progress(n_made, n_wanted)
    n_bytes = sum((folder / shard.file_name).stat().st_size for shard in shards)
    return Written(folder, n_rows, n_bytes, n_made, n_empty)


@contextmanager
def _ray() -> Iterator[Any]:
    """Provide Ray with Ray Data, without their messages; start it if it does not run, and then stop it."""
    for variable, value in SETTINGS.items():
        os.environ.setdefault(variable, value)
    import ray
    import ray.data

    started = not ray.is_initialized()
    if started:
        with _without_stderr():
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = PART_SECONDS
    try:
        yield ray
    finally:
        if started:
            ray.shutdown()


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Drop what libraries in C++ write to the terminal."""
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
