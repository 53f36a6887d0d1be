"""Repositories of a Hub for tests: files, commits and branches; and failures that are asked for."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Blob:
    content: bytes
    lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def git(self) -> str:
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n"
        stored = pointer.encode() if self.lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git


@dataclass
class Repo:
    private: bool
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, Blob]) -> str:
        sha = hashlib.sha1(f"{branch}{len(self.commits)}{sorted(files)}".encode()).hexdigest()
        self.commits[sha] = files
        self.branches[branch] = sha
        return sha

    def files(self, branch: str = "main") -> dict[str, Blob]:
        return self.commits[self.branches[branch]]


@dataclass
class Fault:
    """A fault that the server shows to the first matching requests, in place of an answer."""

    method: str
    path: str
    """Regular expression that is searched for."""
    status: int | None = None
    drop: bool = False
    """Whether the connection ends after the request took effect."""
    damage: Callable[[bytes], bytes] | None = None
    """Changes the body of a download; a shorter one ends the connection early."""
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 10**9
    met: int = 0
