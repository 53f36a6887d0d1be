"""Files that are told apart by their SHA-256, and files that are written whole or not at all."""

import hashlib
from pathlib import Path


def file_sha256(path: Path) -> str:
    """Hex digest; the file is read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, text: str) -> None:
    """Write ``path`` in UTF-8; who is killed on the way leaves what was there before."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
