"""Files and folders: told apart by their SHA-256, written whole or not at all, kept inside the folder they are meant for."""

import errno
import hashlib
import os
import re
import shutil
from pathlib import Path, PurePosixPath, PureWindowsPath

from rich.filesize import decimal

from sae_lens_abstopk.system.errors import ConfigError

# what file systems say that do not sync folders
NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP)
SAMPLES, SAMPLE_BYTES = 64, 2**14


def file_sha256(path: Path) -> str:
    """Hex digest; the file is read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sampled_digest(path: Path) -> str:
    """Of parts of a large file, evenly apart: a copy has the same, a model that was trained on or a shuffled text another one."""
    digest, size = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as file:
        for n in range(SAMPLES):
            file.seek(n * max(size - SAMPLE_BYTES, 0) // (SAMPLES - 1))
            digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()[:12]


def write_whole(path: Path, text: str) -> None:
    """Write ``path`` in UTF-8, synced; what ends the process on the way leaves what was there before."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        sync(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Wait until a file, or where the system can the names in a folder, are on the disk."""
    is_folder, windows = path.is_dir(), os.name == "nt"
    if is_folder and windows:  # which opens no folders
        return
    descriptor = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not is_folder or error.errno not in NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def lack_of_space(folder: Path, n_bytes: int, what: str = "a checkpoint") -> str | None:
    """What to say where the disk of ``folder``, which need not exist, has less than the ``n_bytes`` free that ``what`` needs."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free >= n_bytes:
        return None
    return f"{what} needs {decimal(n_bytes)} and the disk of {folder} has {decimal(free)} free"


def why_not_written(error: Exception) -> str:
    """The reason in an exception that writing a file raised."""
    said = error.strerror if isinstance(error, OSError) else None
    return said or next(iter(str(error).splitlines()), type(error).__name__)


def require_empty(folder: Path) -> None:
    """
    Refuse to write a folder among what is there.

    Raises:
        ConfigError: there is something in ``folder``, or it is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is not an empty folder; give another with --out, or empty it.")


def inside(folder: Path, name: str, *, where: str) -> Path:
    """
    The path of ``name`` in ``folder``.

    Args:
        folder: Need not exist.
        name: Relative, as a file from elsewhere has it.
        where: What names it, for errors.

    Raises:
        ConfigError: it is absolute, or ``..`` or a link leads out of the folder.
    """
    path = folder / name
    if leads_up(name) or not path.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"{where}: {name!r} leads out of {folder}; only what lies in that folder is read.")
    return path


def home_as_tilde(text: str) -> str:
    """``text`` with ~ where the path of the user's home folder begins, for what others are to see."""
    home = os.path.expanduser("~").rstrip("/\\")
    return re.sub(rf"(?<![\w./\\~-]){re.escape(home)}(?=[/\\]|$)", "~", text) if os.path.isabs(home) else text


def leads_up(name: str) -> bool:
    """Whether a name is empty, absolute, or goes up, on any system."""
    kinds = (PurePosixPath(name), PureWindowsPath(name))
    return not name or any(path.is_absolute() or path.drive or ".." in path.parts for path in kinds)
