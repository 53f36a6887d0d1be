"""Locks that keep two processes from writing one run folder."""

import errno
import json
import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from sae_lens_abstopk.system.errors import FolderInUseError
from sae_lens_abstopk.system.files import writing

LOCK = ".lock"
HOLDER = ".lock-holder"
# errors of a file system without locks, such as NFS without its lock daemon
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def run_folder_lock(folder: Path, *, key: str = "output_path") -> Iterator[None]:
    """
    Keep other processes out of a run folder; make it if missing, remove it if it stays empty.

    The operating system releases the lock however the process ends. On a file system without locks, only warn.

    Raises:
        FolderInUseError: another process, named in the message, holds it.
        ConfigError: the folder cannot be written to; names the config key ``key``.
    """
    lock = FileLock(folder / LOCK)
    holder, is_new = folder / HOLDER, not folder.exists()
    with writing(f"{key}={str(folder)!r}"):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            acquire(lock)
        except Timeout:
            raise FolderInUseError(
                f"{key}={str(folder)!r} is being written by {_describe_holder(holder)}; wait for it or stop it, or "
                "name another folder."
            ) from None
    try:
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        holder.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": started}))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
        if is_new:
            with suppress(OSError):  # the folder is not empty
                if not [path for path in folder.iterdir() if path.name != LOCK]:
                    (folder / LOCK).unlink(missing_ok=True)
                    folder.rmdir()


def acquire(lock: FileLock) -> None:
    """Acquire a lock, or warn that the file system has no locks; ``Timeout`` if another process holds it."""
    try:
        lock.acquire(timeout=0)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        warnings.warn(
            f"{lock.lock_file} cannot be locked ({error.strerror}), so nothing keeps another process out of this "
            "folder; start none that writes to it.",
            stacklevel=2,
        )


@contextmanager
def run_locks(output: Path, checkpoint_path: str | None) -> Iterator[None]:
    """Lock the run folder, and a separate folder of checkpoints if there is one."""
    apart = checkpoint_path is not None and Path(checkpoint_path).resolve() != output.resolve()
    checkpoints = run_folder_lock(Path(checkpoint_path or ""), key="checkpoint_path") if apart else nullcontext()
    with run_folder_lock(output), checkpoints:
        yield


def require_free(folder: Path) -> None:
    """Raise if another process is writing the run folder."""
    if (folder / LOCK).exists():  # a folder that is unusable for another reason is left as it is
        with run_folder_lock(folder):
            pass


def _describe_holder(holder: Path) -> str:
    try:
        found = json.loads(holder.read_text())
        # a file server may keep the lock of a machine that went down
        lost = "" if found["host"] == socket.gethostname() else f"; if it is gone, delete {holder.with_name(LOCK)}"
        return f"process {found['pid']} on {found['host']} (since {found['since']}{lost})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
