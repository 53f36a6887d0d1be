"""What the records of the benchmarks share: what they say of the machine and the software, and how they are written."""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from sae_lens_abstopk.provenance import commit
from sae_lens_abstopk.sparse.candidates import bfloat16_is_fast


def environment() -> dict[str, Any]:
    """The machine, the versions and the commit that is measured."""
    return {
        "python": platform.python_version(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "bfloat16 selection": bfloat16_is_fast(torch.device("cpu")),
        "commit": commit() or "unknown",
        **{package: version(package) for package in ("torch", "sae-lens", "transformers", "sae-lens-abstopk")},
    }


def processor() -> str:
    """Name of the processor, where Linux tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


def write_record(record: Mapping[str, Any], out: Path | None) -> None:
    """As JSON into ``out``, where that is given."""
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
