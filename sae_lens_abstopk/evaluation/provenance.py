"""Where numbers come from: the commit, the versions and the machine."""

import subprocess
from importlib.metadata import version
from pathlib import Path
from platform import python_version

import torch

PACKAGES = ("sae-lens-abstopk", "sae-lens", "torch", "transformers", "scikit-learn")


def environment() -> dict[str, str]:
    """Versions and device."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return {"python": python_version(), "device": device, **{name: version(name) for name in PACKAGES}}


def commit() -> str | None:
    """The commit of a clone that this is run from."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
