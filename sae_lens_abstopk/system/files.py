"""Files and folders: digests, atomic writes, free space, and paths that stay inside a folder."""

import errno
import hashlib
import os
import re
import shutil
from pathlib import Path, PurePosixPath, PureWindowsPath

from rich.filesize import decimal

from sae_lens_abstopk.system.errors import ConfigError

# errors of file systems that do not sync folders
NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP)
HUB_NAME = re.compile(r"\w[\w.-]*(/[\w.-]+)?")
SAMPLES, SAMPLE_BYTES = 64, 2**14


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hex digits; the file is read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sampled_digest(path: Path) -> str:
    """Return a digest of parts of a large file, evenly apart; equal for a copy, different for other content."""
    digest, size = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as file:
        for n in range(SAMPLES):
            file.seek(n * max(size - SAMPLE_BYTES, 0) // (SAMPLES - 1))
            digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()[:12]


def write_whole(path: Path, text: str) -> None:
    """Write ``path`` in UTF-8, synced, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        sync(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Wait until a file is on the disk, or the names in a folder where the system can do that."""
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
    """
    Explain that the disk of ``folder`` has less free than the ``n_bytes`` that ``what`` needs; None if it has enough.
    """
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free >= n_bytes:
        return None
    return f"{what} needs {decimal(n_bytes)} and the disk of {folder} has {decimal(free)} free"


def why_not_written(error: Exception) -> str:
    """Return the reason in an exception of writing a file."""
    said = error.strerror if isinstance(error, OSError) else None
    return said or next(iter(str(error).splitlines()), type(error).__name__)


def require_empty(folder: Path) -> None:
    """
    Refuse an output folder that is not empty.

    Raises:
        ConfigError: ``folder`` has files in it, or is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is not an empty folder; give another with --out, or empty it.")


def inside(folder: Path, name: str, *, where: str) -> Path:
    """
    Return the path of ``name`` in ``folder``.

    Args:
        folder: Need not exist.
        name: Relative path from an untrusted file.
        where: The place of ``name``, for errors.

    Raises:
        ConfigError: it is absolute, or ``..`` or a link leads out of the folder.
    """
    path = folder / name
    if leads_up(name) or not path.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"{where}: {name!r} leads out of {folder}; only files in that folder are read.")
    return path


def home_as_tilde(text: str) -> str:
    """Return ``text`` with ~ for the user's home folder, for text that others see."""
    home = os.path.expanduser("~").rstrip("/\\")
    return re.sub(rf"(?<![\w./\\~-]){re.escape(home)}(?=[/\\]|$)", "~", text) if os.path.isabs(home) else text


def leads_up(name: str) -> bool:
    """Whether a name is empty, absolute, or goes up, on any system."""
    kinds = (PurePosixPath(name), PureWindowsPath(name))
    return not name or any(path.is_absolute() or path.drive or ".." in path.parts for path in kinds)


def without_path(source: str) -> str:
    """Return ``source`` if the Hub may know it; else, as of a local file, also of another machine, its last part."""
    if HUB_NAME.fullmatch(source) and not Path(source).exists():
        return source
    return PureWindowsPath(source).name or source  # understands both kinds of slashes
