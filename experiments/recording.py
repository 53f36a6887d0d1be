"""Records of experiments: arguments, lines with commit, command and machine, and files of JSON."""

import argparse
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

from sae_lens_abstopk.evaluation.results.facts import origin_facts
from sae_lens_abstopk.sparse.candidates import bfloat16_is_fast
from sae_lens_abstopk.system.provenance import commit, processor

ROOT = Path(__file__).resolve().parents[1]
# instructions that decide the speed of matrix products
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile")


def environment() -> dict[str, Any]:
    """Return the machine, its load before the measurement, the versions and the commit."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    flags = next((line.partition(": ")[2].split() for line in lines if line.startswith("flags")), [])
    return {
        "python": platform.python_version(),
        "processor": processor(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "threads": torch.get_num_threads(),
        "bfloat16 selection": bfloat16_is_fast(torch.device("cpu")),
        "commit": commit() or "unknown",
        **{package: version(package) for package in ("torch", "sae-lens", "transformers", "sae-lens-abstopk")},
    }


def command() -> str:
    """Return this process's command; paths are relative to the repository, or only a name outside it."""
    module = Path(sys.argv[0]).resolve().relative_to(ROOT).with_suffix("")
    return shlex.join(["python", "-m", ".".join(module.parts), *map(_without_absolute_path, sys.argv[1:])])


def _without_absolute_path(argument: str) -> str:
    key, equals, value = argument.rpartition("=")
    if not Path(value).is_absolute():
        return argument
    path = Path(value)
    return key + equals + str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name)


def write_record(record: Mapping[str, Any], out: Path | None) -> None:
    """Print a record, and write it to ``out`` if given."""
    text = json.dumps(record, indent=1)
    print(text)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")


def arguments(about: str | None) -> argparse.ArgumentParser:
    """Make a parser whose help is ``about``, the docstring of a module."""
    return argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)


def origin(device: str | None = None) -> dict[str, Any]:
    """Return when, by which command and from which code numbers come, and the machine."""
    return origin_facts(device) | {"command": command()}


def read_lines(record: Path) -> list[dict[str, Any]]:
    """Return the lines of a record, or none if it is missing."""
    return [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()] if record.is_file() else []


def append_line(record: Path, line: Mapping[str, Any]) -> None:
    """Add a line to a record."""
    record.parent.mkdir(parents=True, exist_ok=True)
    with record.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
