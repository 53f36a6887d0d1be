"""Checkpoint folders: written whole or not at all, verified by hash before they are read, the newest few kept."""

import itertools
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from sae_lens_abstopk.system.errors import TrainingStopped
from sae_lens_abstopk.system.files import file_sha256, reason_of, sync
from sae_lens_abstopk.system.ranks import OtherRankError, this_rank

MANIFEST = "checkpoint.json"
# folders being written or deleted
PARTIAL = ".partial-"


class CheckpointError(TrainingStopped):
    """A checkpoint could not be written; earlier ones are intact."""


@contextmanager
def new_checkpoint(folder: Path, *, step: int) -> Iterator[Path]:
    """
    Yield a temporary folder for a checkpoint; rename it to ``folder`` once all files are on the disk.

    However the process ends, ``folder`` is whole or as it was. Other ranks than the first only add files. Raises
    CheckpointError.
    """
    root, leads = folder.parent, this_rank() == 0
    partial, old = (root / f"{PARTIAL}{folder.name}{suffix}" for suffix in ("", "-old"))
    try:
        if leads:
            root.mkdir(parents=True, exist_ok=True)
            remove_partial(root)
            partial.mkdir()
        yield partial
        if not leads:
            return
        files = {
            path.relative_to(partial).as_posix(): {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
            for path in sorted(partial.rglob("*"))
            if path.is_file()
        }
        (partial / MANIFEST).write_text(json.dumps({"step": step, "files": files}, indent=1) + "\n", encoding="utf-8")
        for path in [*partial.rglob("*"), partial]:
            sync(path)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        sync(root)
        shutil.rmtree(old, ignore_errors=True)
    except OtherRankError:
        raise
    except (OSError, SafetensorError, RuntimeError) as error:  # torch.save raises a plain RuntimeError
        raise CheckpointError(
            f"the checkpoint {folder} could not be written ({reason_of(error)}); earlier ones are intact. Fix "
            "the cause, then continue with --resume."
        ) from error
    finally:
        if leads:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def all_at_once(folder: Path, *, last: str) -> Iterator[Path]:
    """
    Yield a folder whose files are moved into ``folder`` on leaving, the file ``last`` after all others.

    Raises TrainingStopped if they cannot be written or moved.
    """
    staging = folder / f"{PARTIAL}files"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_partial(folder)
        staging.mkdir()
        yield staging
        for path in sorted(staging.iterdir(), key=lambda path: path.name == last):
            sync(path)
            path.replace(folder / path.name)
    except (OSError, SafetensorError) as error:
        raise TrainingStopped(
            f"the files of {folder} could not be written ({reason_of(error)}). Free some space or repair the "
            "disk; then start again, or continue with --resume."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def remove_partial(root: Path) -> None:
    """Remove folders that a killed process left half written or half deleted."""
    for path in root.glob(f"{PARTIAL}*"):
        shutil.rmtree(path, ignore_errors=True)


def checkpoints(root: Path) -> list[Path]:
    """List checkpoints in ``root``, newest first, damaged ones included; their names are numbers of tokens."""
    found = [path for path in root.iterdir() if path.is_dir() and path.name.isdigit()] if root.is_dir() else []
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def newest_checkpoint(root: Path) -> tuple[Path | None, dict[Path, str]]:
    """Return the newest checkpoint in ``root`` whose files match their hashes, and the damage of newer ones."""
    torn = {}
    for folder in checkpoints(root):
        problem = damage(folder)
        if problem is None:
            return folder, torn
        torn[folder] = problem
    return None, torn


def damage(folder: Path) -> str | None:
    """Return what is wrong with the checkpoint ``folder``, or None if it is whole."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest["files"].items()}
    except FileNotFoundError:
        return f"it has no {MANIFEST}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its {MANIFEST} cannot be read ({error})"
    for name, (n_bytes, digest) in files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            return f"{name} is a link that leads out of it"
        try:
            if (size := path.stat().st_size) != n_bytes:
                return f"{name} has {size:,} bytes instead of {n_bytes:,}"
            if file_sha256(path) != digest:
                return f"{name} is not what was written (its SHA-256 differs)"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return None


def keep_newest(folder: Path, n: int) -> None:
    """Delete all but the ``n`` newest of the checkpoint ``folder`` and those older than it."""
    not_newer = [path for path in checkpoints(folder.parent) if int(path.name) <= int(folder.name)]
    for path in not_newer[n:]:
        shutil.rmtree(path.rename(path.with_name(f"{PARTIAL}{path.name}-old")), ignore_errors=True)


def set_newer_aside(root: Path, folder: Path, tokens: int) -> list[Path]:
    """Rename checkpoints in ``root`` with at least ``tokens``, except ``folder``; return their new paths."""
    moved = []
    for path in checkpoints(root):
        if int(path.name) >= tokens and path.resolve() != folder.resolve():
            numbered = (root / f"abandoned-{path.name}-{n}" for n in itertools.count(1))
            moved.append(path.rename(next(new for new in numbered if not new.exists())))
    return moved
