"""The origin of numbers: the commit, the versions and the machine."""

import hashlib
import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import machine, python_version

import torch

PACKAGE = Path(__file__).resolve().parents[1]
# files beside the package that influence numbers
CODE_PATHS = (
    *("experiments/*.py", "experiments/*/*.py", "experiments/*/*.yaml"),
    *("training_configs", "evals/tasks", "evals/suites", "pyproject.toml", "uv.lock"),
)
PACKAGES = ("sae-lens-abstopk", "sae-lens", "torch", "transformers", "datasets", "numpy", "scikit-learn")


def version_of(package: str) -> str:
    """Return the version of an installed package, or ``"unknown"``."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def environment(device: torch.device | str | None = None) -> dict[str, str]:
    """Return versions and the name of ``device``, by default a GPU if available."""
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return {"python": python_version(), "device": name, **{package: version_of(package) for package in PACKAGES}}


def processor() -> str:
    """Return the model of the CPU, which affects rounding in bfloat16; outside Linux only its architecture."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    named = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(named, "") or machine()


def commit() -> str | None:
    """Return the last commit that changed the code, with ``-dirty`` if the code was edited since."""
    known = _git("log", "-1", "--format=%h", "--", PACKAGE.name, *CODE_PATHS).decode().strip()
    return f"{known}-dirty" if known and _git("diff", "HEAD", "--", PACKAGE.name, *CODE_PATHS) else known or None


def digest_of_code(package: Path) -> str:
    """Return a digest of the names and contents of a package's Python files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in package.rglob("*.py") if path.is_file()):  # not an editor's lock file
        digest.update(repr((path.relative_to(package).as_posix(), path.read_bytes())).encode())
    return digest.hexdigest()[:12]


# taken at import: in a notebook, another version may be installed while this one runs
CODE_DIGEST = digest_of_code(PACKAGE)
"""Digest of the package's own code, which identifies versions without a commit."""


def _git(*command: str) -> bytes:
    """Run git in the clone that contains this package; return its output, empty outside a clone."""
    root = PACKAGE.parent
    if not (root / ".git").exists():
        return b""
    try:
        # without the variables that git sets in hooks: they may name another repository
        env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        return subprocess.run(["git", "-C", str(root), *command], capture_output=True, check=False, env=env).stdout
    except OSError:  # git is not installed
        return b""


__version__ = version_of("sae-lens-abstopk")
