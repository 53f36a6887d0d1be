"""What the records of the benchmarks share: what they say of the machine, the software and the command, and how they are written."""

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from sae_lens_abstopk.sparse.candidates import bfloat16_is_fast
from sae_lens_abstopk.system.provenance import commit, processor

ROOT = Path(__file__).resolve().parents[2]
# those that decide how matrices are multiplied
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile")


def environment() -> dict[str, Any]:
    """The machine and its load now, before anything is measured, the versions and the commit that is measured."""
    known = instructions()
    return {
        "python": platform.python_version(),
        "processor": processor(),
        "instructions": [name for name in INSTRUCTIONS if name in known],
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "threads": torch.get_num_threads(),
        "bfloat16 selection": bfloat16_is_fast(torch.device("cpu")),
        "commit": commit() or "unknown",
        **{package: version(package) for package in ("torch", "sae-lens", "transformers", "sae-lens-abstopk")},
    }


def instructions() -> list[str]:
    """Extensions of the first core, where Linux tells them."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(": ")[2].split() for line in lines if line.startswith("flags")), [])


def command() -> str:
    """The command that this process was started with, its paths as seen from the repository, or their names alone."""
    return shlex.join(["python", *map(told, sys.argv)])


def told(argument: str) -> str:
    """An argument, or the value of a ``key=value``, without an absolute path."""
    key, equals, value = argument.rpartition("=")
    if not Path(value).is_absolute():
        return argument
    path = Path(value)
    return key + equals + str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name)


def write_record(record: Mapping[str, Any], out: Path | None) -> None:
    """As JSON into ``out``, where that is given."""
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
