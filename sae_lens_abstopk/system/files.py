"""Files and folders: the cache, digests, atomic writes, free space, and paths that stay inside a folder."""

import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain, count
from pathlib import Path, PurePosixPath, PureWindowsPath

import pyarrow as pa
from pydantic import ValidationError
from rich.filesize import decimal
from safetensors import SafetensorError

from sae_lens_abstopk.system.errors import ConfigError, as_config_error, require_choice

# errors of file systems that do not sync folders
NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP)
HUB_NAME = re.compile(r"\w[\w.-]*(/[\w.-]+)?")
SAMPLES, SAMPLE_BYTES = 64, 2**14
# what readers of JSON, Parquet, NumPy, safetensors and torch raise for a damaged file
UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, EOFError),
    *(SafetensorError, pa.ArrowException),
)


def cache_folder() -> Path:
    """Return ``ABSTOPK_CACHE``, or a folder in the user's cache."""
    if own := os.environ.get("ABSTOPK_CACHE"):
        return Path(os.path.expanduser(own))
    caches = os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    if caches.startswith("~"):  # there is no home folder, as in some containers
        caches = tempfile.gettempdir()
    return Path(caches, "sae-lens-abstopk")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of all files of a folder."""
    if path.is_file():
        return file_sha256(path)
    digest = hashlib.sha256()
    for file in sorted(each for each in path.rglob("*") if each.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\n{file_sha256(file)}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def sampled_digest(path: Path) -> str:
    """Return a fast digest of a large file, from samples at even distances."""
    digest, size = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as file:
        for n in range(SAMPLES):
            file.seek(n * max(size - SAMPLE_BYTES, 0) // (SAMPLES - 1))
            digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()[:12]


def write_whole(path: Path, text: str) -> None:
    """Write ``path`` atomically, in UTF-8, synced."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield another path to write; it is synced and becomes ``path`` at the end, or is deleted on an error."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        sync(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Wait until a file, or a folder's entries if the system can, are on the disk."""
    is_folder, windows = path.is_dir(), os.name == "nt"
    if is_folder and windows:  # Windows cannot open folders
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
    """Explain that the disk of ``folder`` lacks the ``n_bytes`` that ``what`` needs; None if it has them."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free >= n_bytes:
        return None
    return f"{what} needs {decimal(n_bytes)} and the disk of {folder} has {decimal(free)} free"


def require_space(folder: Path, n_bytes: int, what: str, *, remedy: str) -> None:
    """Raise a :class:`ConfigError` if the disk of ``folder`` lacks the ``n_bytes`` that ``what`` needs."""
    if lack := lack_of_space(folder, n_bytes, what):
        raise ConfigError(f"{lack}; {remedy}.")


def reason_of(error: Exception) -> str:
    """Return the reason why a file could not be read or written, in one line."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ").rstrip(".")
        return f"{'.'.join(map(str, first['loc'])) or 'the text'}: {message}"
    said = error.strerror if isinstance(error, OSError) else None
    return said or next(iter(str(error).splitlines()), type(error).__name__)


def writing(path: Path | str) -> AbstractContextManager[None]:
    """Turn an error of writing ``path`` into a :class:`ConfigError`."""
    return as_config_error(OSError, lambda error: f"{path} cannot be written ({reason_of(error)}); name another.")


def reading(path: Path | str, remedy: str) -> AbstractContextManager[None]:
    """Turn an error of reading ``path`` into a :class:`ConfigError` with its reason and the ``remedy``."""
    return as_config_error(UNREADABLE, lambda error: f"{path} is missing or damaged ({reason_of(error)}); {remedy}.")


def require_new(path: Path, *endings: str) -> None:
    """Raise a :class:`ConfigError` unless ``path`` is the name of a new file with one of ``endings``."""
    require_choice(f"{path}: the ending", path.suffix, endings)
    if path.exists():
        raise ConfigError(f"{path} exists and is not overwritten; give another with --out, or delete it.")


def require_no_file(folder: Path) -> None:
    """Raise a :class:`ConfigError` if an output folder, or a folder above it, is a file."""
    if file := next((path for path in (folder, *folder.parents) if path.is_file()), None):
        above = "" if file == folder else f"cannot be a folder, since {file} "
        raise ConfigError(f"{folder} {above}is a file; give another with --out.")


def require_empty(folder: Path) -> None:
    """Raise a :class:`ConfigError` if an output folder is a file or has files."""
    require_no_file(folder)
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not an empty folder; give another with --out, or empty it.")


def free_folder(wanted: Path) -> Path:
    """Return the first path of ``wanted``, ``wanted-2``, ``wanted-3``, ... that does not exist."""
    numbered = (wanted.with_name(f"{wanted.name}-{n}") for n in count(2))
    return next(folder for folder in chain([wanted], numbered) if not folder.exists())


def inside(folder: Path, name: str, *, where: str) -> Path:
    """Return the path in ``folder`` of ``name`` from an untrusted file; a ``ConfigError`` if it leads out of it."""
    path = folder / name
    if leads_up(name) or not path.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"{where}: {name!r} leads out of {folder}; only files in that folder are read.")
    return path


def home_as_tilde(text: str) -> str:
    """Replace the user's home folder in ``text`` by ~, for text that others see."""
    home = os.path.expanduser("~").rstrip("/\\")
    return re.sub(rf"(?<![\w./\\~-]){re.escape(home)}(?=[/\\]|$)", "~", text) if os.path.isabs(home) else text


def leads_up(name: str) -> bool:
    """Return whether a name is empty, absolute or goes up, on any system."""
    kinds = (PurePosixPath(name), PureWindowsPath(name))
    return not name or any(path.is_absolute() or path.drive or ".." in path.parts for path in kinds)


def without_path(source: str) -> str:
    """Return ``source`` if it may be a Hub id; else only the last part of the path."""
    if HUB_NAME.fullmatch(source) and not Path(source).exists():
        return source
    return PureWindowsPath(source).name or source  # understands both kinds of slashes
