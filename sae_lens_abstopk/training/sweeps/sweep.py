"""Sweeps: one file that stands for many runs."""

import hashlib
import itertools
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.yaml_files import data_folder, read_yaml, shipped_file, yaml_text
from sae_lens_abstopk.training.checkpoints.resume import is_finished
from sae_lens_abstopk.training.config.config_file import load_config
from sae_lens_abstopk.training.config.presets import CONFLICTS, named_config
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.distributed import require_one_process
from sae_lens_abstopk.training.run_folder import under_checkpoint_path
from sae_lens_abstopk.training.sweeps.many_runs import require_caches, train_unfinished

ENTRY_KEYS = {"config", "variants", "grid"}
# in bytes; file systems take 255, and files in the folder have longer paths
LONGEST_NAME = 200


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep."""

    name: str
    """Also the name of its folder."""
    source: str
    """Config or preset, with its variant."""
    overrides: tuple[str, ...]

    def config(self, out: Path) -> TrainingConfig:
        """The checked config of this run, with its folder in ``out``."""
        cfg = load_config(self.source, [*self.overrides, f"output_path={yaml_text(str(out / self.name))}"])
        return under_checkpoint_path(cfg, self.name)

    def command(self, out: Path) -> str:
        """The shell command of this run alone; given again, it goes on where it stopped."""
        root = self.config(out).checkpoint_path
        own = [] if root is None else [f"checkpoint_path={yaml_text(root)}"]
        words = [
            "abstopk",
            "train",
            self.source,
            *self.overrides,
            *own,
            "--out",
            str(out / self.name),
            "--resume",
        ]
        return shlex.join(words)


def load_sweep(source: str, overrides: Sequence[str] = ()) -> list[SweepRun]:
    """
    The runs of a sweep file: for each entry of ``runs``, every variant with every point of its grid.

    A relative ``config`` is looked for beside the file first.

    Raises:
        ConfigError: the file is missing, a key or an entry is not understood, or two runs would have one folder.
    """
    path = shipped_file(source, data_folder("training_configs") / "sweeps", what="sweep")
    raw = read_yaml(path)
    entries = raw.get("runs")
    if set(raw) - {"runs", "variants", "grid"} or not isinstance(entries, list) or not entries:
        raise ConfigError(
            f"{path}: a sweep has the keys runs (a list, not empty), variants and grid; this one has {', '.join(raw)}."
        )
    runs = []
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict) or set(entry) - ENTRY_KEYS or "config" not in entry:
            raise ConfigError(f"{path}: runs[{i}] must have config and may have variants and grid; got {entry!r}.")
        grid = {**_grid(raw, path), **_grid(entry, f"{path}: runs[{i}]")}
        _refuse_overridden(grid, overrides, path)
        variants = entry.get("variants", raw.get("variants", [""]))
        if not isinstance(variants, list) or not variants or not all(isinstance(name, str) for name in variants):
            raise ConfigError(
                f"{path}: variants={variants!r} must be a list of names, as in [abstopk, topk]; not empty."
            )
        config = named_config(entry["config"], path)
        for variant in variants:
            runs.extend(_points(f"{config}/{variant}" if variant else config, grid, overrides))
    _require_own_folders(runs, path)
    return runs


def _grid(section: Mapping[str, Any], where: Path | str) -> dict[str, list[Any]]:
    grid = section.get("grid", {})
    if not isinstance(grid, dict) or not all(isinstance(values, list) and values for values in grid.values()):
        raise ConfigError(
            f"{where}: grid={grid!r} must map keys to lists of values, as in {{sae.k: [32, 64]}}; none empty."
        )
    return grid


def _refuse_overridden(grid: Mapping[str, Sequence[Any]], overrides: Sequence[str], path: Path) -> None:
    """A change to a key of the grid would leave runs that are called by values which they do not have."""
    for override in overrides:
        whole, _, value = override.partition("=")
        if whole == "output_path":
            raise ConfigError(f"{override!r}: name the folder of all runs of {path} with --out.")
        if whole == "hook_name" and "layer" in grid and "{layer}" not in value:
            raise ConfigError(
                f"{override!r} would replace layer, which the grid of {path} has; write {{layer}} in it, or change the file."
            )
        if inside := [name for name in grid if name.startswith(f"{whole}.")]:
            raise ConfigError(f"{override!r} would replace {inside[0]}, which the grid of {path} has; change the file.")
        section, dot, key = whole.rpartition(".")
        for name in (key, CONFLICTS.get(key)):
            if name is not None and (in_grid := f"{section}{dot}{name}") in grid:
                raise ConfigError(
                    f"{override!r} would replace {in_grid}, which the grid of {path} has at {', '.join(map(str, grid[in_grid]))}; "
                    "change the file."
                )


def _require_own_folders(runs: Sequence[SweepRun], path: Path) -> None:
    seen: dict[str, SweepRun] = {}
    for run in runs:
        other = seen.setdefault(run.name.casefold(), run)  # some file systems do not tell upper from lower case
        if other is not run:
            raise ConfigError(
                f"{path}: the runs of {other.source} and {run.source} would share the folder {run.name!r}. Give the config files "
                "different names, or the grids a key that differs; if it is the same run listed twice, remove one."
            )


def _points(source: str, grid: Mapping[str, Sequence[Any]], overrides: Sequence[str]) -> list[SweepRun]:
    points = []
    for values in itertools.product(*grid.values()):
        point = dict(zip(grid, values, strict=True))
        changes = tuple(f"{key}={yaml_text(value)}" for key, value in point.items())
        base = Path(source).stem if source.endswith((".yaml", ".yml")) else source.replace("/", "_")
        # no "=" in the name of a folder, as commands take NAME=FOLDER
        in_name = [f"{key}-{value}".replace("=", "-") for key, value in point.items()]
        points.append(
            SweepRun(name=_folder_name("_".join([base, *in_name])), source=source, overrides=(*changes, *overrides))
        )
    return points


def _folder_name(text: str) -> str:
    """``text`` as every file system takes it: long values are cut, with a digest that tells them apart."""
    name = re.sub(r'[/\\:*?"<>|\x00-\x1f\x7f]', "_", text)
    if len(name.encode()) <= LONGEST_NAME:
        return name
    return (
        f"{name.encode()[: LONGEST_NAME - 9].decode(errors='ignore')}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    )


def run_sweep(runs: Sequence[SweepRun], out: Path, *, console: Console, dry_run: bool = False) -> None:
    """
    Check every config, then train the runs that are not finished in ``out``, one after the other.

    Raises:
        ConfigError: before any is trained, as :func:`.train_unfinished` has it, or if a config is not understood.
        TrainingStopped: at the end, naming the runs that failed.
    """
    require_one_process("abstopk sweep")
    train_unfinished({run.name: run.config(out) for run in runs}, console=console, dry_run=dry_run)


def unfinished(runs: Sequence[SweepRun], out: Path) -> list[SweepRun]:
    """
    The runs that are not finished in ``out``, to be trained elsewhere and at the same time.

    Raises:
        ConfigError: a config is not understood, the folder of a run holds one with other settings, or an activation cache
            does not serve all runs that name it or is still to be filled by several.
    """
    waiting = [(run, cfg) for run in runs if not is_finished(cfg := run.config(out))]
    require_caches({run.name: cfg for run, cfg in waiting}, at_once=True)
    return [run for run, _ in waiting]
