"""Run work on rows in this process, as one share of a job array, or on Ray."""

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from sae_lens_abstopk.embeddings.parquet_parts import Shard, Work, Written, missing_parts, write_rows
from sae_lens_abstopk.system.errors import require_one
from sae_lens_abstopk.system.files import require_new, require_no_file
from sae_lens_abstopk.system.terminal import passes_bar


def run_work(
    title: str,
    make: Callable[[], Work],
    out: Path,
    *,
    shard: Shard | None,
    ray_workers: int | None,
    console: Console | None,
) -> Written:
    """
    Write the result of work to a new file, or its parts to a folder.

    ``make`` loads models and opens the rows; it is called again on each worker of Ray. ``out`` is a new .parquet file,
    or with ``shard`` or ``ray_workers`` a folder.

    Raises:
        ConfigError: before anything is computed, if ``make`` raises or ``out`` cannot be used.
    """
    console = console or Console(quiet=True)
    require_one({"--shard": shard, "--ray": ray_workers}, or_none=True)
    if shard is None and ray_workers is None:
        require_new(out, ".parquet")
    else:
        require_no_file(out)
    if ray_workers is not None:
        from sae_lens_abstopk.embeddings.ray_jobs import run_on_ray

        written = run_on_ray(title, make, out, n_workers=ray_workers, console=console)
    else:
        work = make()
        rows, path, is_there = range(work.rows.n_rows), out, False
        if shard is not None:
            rows, path = shard.rows(work.rows.n_rows), out / shard.file_name
            is_there = not missing_parts(work, [shard], out)
        with passes_bar(console, title) as on_progress:
            n_empty = 0 if is_there else write_rows(work, rows, path, on_progress)
        written = Written(path, len(rows), path.stat().st_size, 0 if is_there else len(rows), n_empty)
    if written.n_empty:
        share = f"{written.n_empty:,} of {written.n_made:,}"
        console.print(f"{share} texts are empty; they were embedded like any text", style="dim")
    return written
