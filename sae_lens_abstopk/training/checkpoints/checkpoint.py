"""Checkpoint folders: written whole or not at all, checked before they are read, the last few kept."""

import itertools
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError

from sae_lens_abstopk.system.errors import TrainingStopped
from sae_lens_abstopk.system.files import file_sha256, sync, why_not_written
from sae_lens_abstopk.system.ranks import OtherRankError, this_rank

MANIFEST = "checkpoint.json"
# what is being written or deleted; never taken for a checkpoint
PARTIAL = ".partial-"
# what a run that went back to an older checkpoint has left behind
ASIDE = "abandoned-"
# final files that could not be moved to where they belong
UNMOVED = "unmoved-"


class CheckpointError(TrainingStopped):
    """A checkpoint could not be written; those before it are as they were."""


class FoundCheckpoint(NamedTuple):
    """What :func:`newest_checkpoint` found."""

    folder: Path | None
    """The newest whole checkpoint, None where there is none."""
    torn: dict[Path, str]
    """Newer ones that are not whole, and what is wrong with each."""


@contextmanager
def new_checkpoint(folder: Path, *, step: int) -> Iterator[Path]:
    """
    A folder to write a checkpoint into, which becomes ``folder`` when all of it is on the disk.

    Whatever ends the process, ``folder`` is whole or not there, or what it was before: the files and then their manifest of
    sizes and SHA-256 are written and synced under another name in the same place, and renamed at the end. Of several ranks
    the first does all that, and the others add their files.

    Raises:
        CheckpointError: the disk is full, or the folder cannot be written to.
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
        _write_manifest(partial, step)
        for path in [*partial.rglob("*"), partial]:
            sync(path)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        sync(root)
        shutil.rmtree(old, ignore_errors=True)
    except OtherRankError:
        raise
    except (OSError, SafetensorError, RuntimeError) as error:  # torch.save has no exception of its own
        raise CheckpointError(
            f"the checkpoint {folder} could not be written ({why_not_written(error)}); earlier ones are intact. Fix the cause, "
            "then continue with --resume."
        ) from error
    finally:
        if leads:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def all_at_once(folder: Path, *, last: str) -> Iterator[Path]:
    """
    A folder whose files are moved into ``folder`` on leaving, the file ``last`` after all others.

    Raises:
        TrainingStopped: they cannot be written, or not be moved; those that were written whole are kept.
    """
    staging, whole = folder / f"{PARTIAL}files", False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_partial(folder)
        staging.mkdir()
        yield staging
        whole = True
        for path in sorted(staging.iterdir(), key=lambda path: path.name == last):
            sync(path)
            path.replace(folder / path.name)
        whole = False  # nothing is left there
    except (OSError, SafetensorError) as error:
        why = f"the files of {folder} could not be written ({why_not_written(error)})"
        if not whole:
            raise TrainingStopped(
                f"{why}. Free some space, or mend the disk; then start again, or continue from the last checkpoint with --resume."
            ) from error
        kept = staging.rename(_unused(folder, UNMOVED))
        raise TrainingStopped(
            f"{why}; the last of them are kept in {kept}. Mend the disk, then move them into {folder}, {last} last."
        ) from error
    finally:
        if not whole:
            shutil.rmtree(staging, ignore_errors=True)


def remove_partial(root: Path) -> None:
    """Remove what a killed process left half written or half deleted."""
    for path in root.glob(f"{PARTIAL}*"):
        shutil.rmtree(path, ignore_errors=True)


def checkpoints(root: Path) -> list[Path]:
    """The checkpoints in ``root``, whole or not, newest first; their names are numbers of tokens."""
    found = [path for path in root.iterdir() if path.is_dir() and path.name.isdigit()] if root.is_dir() else []
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def newest_checkpoint(root: Path) -> FoundCheckpoint:
    """The newest whole checkpoint in ``root``; every file of it has been read and compared with its hash."""
    torn = {}
    for folder in checkpoints(root):
        problem = damage(folder)
        if problem is None:
            return FoundCheckpoint(folder, torn)
        torn[folder] = problem
    return FoundCheckpoint(None, torn)


def damage(folder: Path) -> str | None:
    """What keeps ``folder`` from being a whole checkpoint; None where nothing does."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest["files"].items()}
    except FileNotFoundError:
        return f"it has no {MANIFEST}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its {MANIFEST} cannot be read ({error})"
    present = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    for name, (n_bytes, digest) in files.items():
        if name in present and not present[name].resolve().is_relative_to(folder.resolve()):
            return f"{name} is a link that leads out of it"
        if name not in present:
            return f"{name} is missing"
        try:
            if present[name].stat().st_size != n_bytes:
                return f"{name} has {present[name].stat().st_size:,} bytes in place of {n_bytes:,}"
            if file_sha256(present[name]) != digest:
                return f"{name} is not what was written (its SHA-256 differs)"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return None


def checkpoint_step(folder: Path) -> int:
    """The training step after which a whole checkpoint was written."""
    return int(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["step"])


def keep_newest(folder: Path, n: int) -> None:
    """Of the checkpoint ``folder`` and those older than it, delete all but the ``n`` newest."""
    not_newer = [path for path in checkpoints(folder.parent) if int(path.name) <= int(folder.name)]
    for path in not_newer[n:]:
        doomed = path.with_name(f"{PARTIAL}{path.name}-old")
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def set_newer_aside(root: Path, folder: Path, tokens: int) -> list[Path]:
    """
    Rename the other checkpoints in ``root`` after as many ``tokens`` as ``folder`` or more.

    None of them is then taken for the newest of the run that goes on from ``folder``.

    Returns:
        What they are called now.
    """
    renamed = []
    for path in checkpoints(root):
        if int(path.name) >= tokens and path.resolve() != folder.resolve():
            renamed.append(path.rename(_unused(root, f"{ASIDE}{path.name}-")))
    return renamed


def _write_manifest(folder: Path, step: int) -> None:
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    (folder / MANIFEST).write_text(json.dumps({"step": step, "files": files}, indent=1) + "\n", encoding="utf-8")


def _unused(folder: Path, start: str) -> Path:
    """A path in ``folder`` where nothing is yet, its name ``start`` and a number."""
    return next(path for n in itertools.count(1) if not (path := folder / f"{start}{n}").exists())
