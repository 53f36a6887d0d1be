"""Where a run goes on from, and whether it is the same run."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from sae_lens.constants import SAE_WEIGHTS_FILENAME

from sae_lens_abstopk.errors import ConfigError
from sae_lens_abstopk.files import write_whole
from sae_lens_abstopk.training.checkpoint import checkpoints, damage, newest_checkpoint
from sae_lens_abstopk.training.config import NEWEST, TrainingConfig
from sae_lens_abstopk.training.config_file import dump_config
from sae_lens_abstopk.training.presets import flat_keys
from sae_lens_abstopk.training.run_lock import LOCK
from sae_lens_abstopk.training.text import text_files
from sae_lens_abstopk.training.training_state import STATE, part_folder

CONFIG_FILENAME = "config.yaml"
METRICS_FILENAME = "metrics.csv"
# keys that no step depends on
HARMLESS = frozenset(
    {
        "act_store_device",
        "checkpoint_freq",
        "checkpoint_path",
        "checkpoints_kept",
        "device",
        "divergence_factor",
        "llm_device",
        "logger",
        "output_path",
        "perf_log_freq",
        "perf_tokens",
        "prefetch_llm_batches",
        "resume_allows_changes",
        "resume_from_checkpoint",
        "verbose",
    }
)


CHANGEABLE = ("lr",)
"""What a run may go on with differently where it is told so."""
LR_REMEDY = (
    " lr may be changed with --allow-changes lr (resume_allows_changes), which scales the schedule and lr_end with it; an "
    "lr_end that is changed too has to keep its share of lr."
)


def checkpoint_to_resume(cfg: TrainingConfig, console: Console) -> Path | None:
    """
    The whole checkpoint that ``cfg.resume_from_checkpoint`` asks for; None where the run starts from the beginning.

    Torn checkpoints that are newer are named on ``console``.

    Raises:
        ConfigError: a named checkpoint is missing or torn, or what is there is of a run with other settings.
    """
    asked = cfg.resume_from_checkpoint
    if asked is None:
        return None
    if asked == NEWEST:
        folder, torn = newest_checkpoint(checkpoint_root(cfg))
        for other, problem in torn.items():
            console.print(f"checkpoint {other} is skipped: {problem}", highlight=False, markup=False, soft_wrap=True)
    else:
        folder = Path(asked)
        problem = damage(folder) if folder.is_dir() else "there is no such folder"
        if problem is not None:
            raise ConfigError(
                f"resume_from_checkpoint={asked!r} is no whole checkpoint: {problem}. Name another one, or let --resume "
                "without a path find the newest."
            )
    for written in (folder, Path(cfg.output_path or "")):
        if written is not None:
            require_same_run(written, cfg)
    return folder


def resume_if_started(cfg: TrainingConfig) -> None:
    """Let a run go on where its folder holds the beginning of one."""
    if (Path(cfg.output_path or "") / CONFIG_FILENAME).is_file():
        cfg.resume_from_checkpoint = NEWEST


def is_finished(cfg: TrainingConfig) -> bool:
    """
    Whether the run folder holds what the run leaves at its end: the weights of all its SAEs.

    Raises:
        ConfigError: it holds a run with other settings, or the beginning of one, or a config.yaml that no run wrote.
    """
    output = Path(cfg.output_path or "")
    _refuse_config_of_nobody(cfg)
    require_same_run(output, cfg)
    return all((part_folder(output, name) / SAE_WEIGHTS_FILENAME).exists() for name in cfg.all_saes)


def refuse_to_overwrite(cfg: TrainingConfig) -> None:
    """
    Refuse a run folder that a run may not be written to.

    Raises:
        ConfigError: it is a file, or holds a run that is finished or that is not to be gone on with, or a config.yaml that no
            run wrote.
    """
    output = Path(cfg.output_path or "")
    if output.exists() and not output.is_dir():
        raise ConfigError(f"output_path={str(output)!r} is a file; name a folder.")
    _refuse_config_of_nobody(cfg)
    resumes, has_checkpoints = cfg.resume_from_checkpoint is not None, bool(checkpoints(checkpoint_root(cfg)))
    if resumes and is_finished(cfg):
        raise ConfigError(f"output_path={str(output)!r} holds a run that is finished; name another folder.")
    taken = [name for name in (SAE_WEIGHTS_FILENAME, METRICS_FILENAME) if (output / name).exists()]
    if has_checkpoints and cfg.checkpoint_path is not None and not resumes:
        raise ConfigError(
            f"checkpoint_path={cfg.checkpoint_path!r} already holds checkpoints of a run; name another folder, or go on with "
            "that run by --resume."
        )
    taken += ["checkpoints"] if has_checkpoints else []
    known = has_checkpoints or (output / CONFIG_FILENAME).is_file()
    if taken and not (resumes and known):
        raise ConfigError(
            f"output_path={str(output)!r} already holds a run ({', '.join(taken)}); choose another folder, move that "
            "one away, or go on with it by --resume."
        )


def _refuse_config_of_nobody(cfg: TrainingConfig) -> None:
    """A config.yaml where no run has left anything else is the user's own, which that of the run would replace."""
    output = Path(cfg.output_path or "")
    by_runs = (LOCK, METRICS_FILENAME, SAE_WEIGHTS_FILENAME)
    if not (output / CONFIG_FILENAME).is_file() or any((output / name).exists() for name in by_runs):
        return
    if not checkpoints(checkpoint_root(cfg)):
        raise ConfigError(
            f"output_path={str(output)!r} holds a {CONFIG_FILENAME} that no run wrote, and the run would write its own there; "
            "name another folder, or give that file another name."
        )


def checkpoint_root(cfg: TrainingConfig) -> Path:
    """The folder that the checkpoints of the run are in."""
    return Path(cfg.checkpoint_path or Path(cfg.output_path or "") / "checkpoints")


def under_checkpoint_path(cfg: TrainingConfig, name: str) -> TrainingConfig:
    """One of several runs of a config, with a folder of its own in the ``checkpoint_path`` that they share, if there is one."""
    if cfg.checkpoint_path is not None:
        cfg.checkpoint_path = str(Path(cfg.checkpoint_path) / name)
    return cfg


def write_config(folder: Path, cfg: TrainingConfig) -> None:
    """Write the config of a run, whole or not at all, so that the file starts the run anew."""
    document = yaml.safe_load(dump_config(cfg)) | {"resume_from_checkpoint": None}
    write_whole(folder / CONFIG_FILENAME, yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


def require_same_run(folder: Path, cfg: TrainingConfig) -> None:
    """
    Refuse to go on in, or from, ``folder`` where the config in it has other values than ``cfg``.

    Where ``lr`` may change, an ``lr_end`` that is still as it was there is scaled with it, in ``cfg``.

    Raises:
        ConfigError: naming each key with both values; keys that change no step may differ, and those that
            ``cfg.resume_allows_changes`` lists.
    """
    _require_changeable(cfg.resume_allows_changes)
    path = folder / CONFIG_FILENAME
    if not path.is_file():
        return
    then = flat_keys(yaml.safe_load(path.read_text(encoding="utf-8")))
    if "lr" in cfg.resume_allows_changes and cfg.lr_end is not None and cfg.lr_end == then.get("lr_end"):
        cfg.lr_end *= cfg.lr / then["lr"]
    now = flat_keys(yaml.safe_load(dump_config(cfg)))
    # a key that the version which wrote it did not know
    then = {key: value for key, value in _defaults(cfg, then).items() if key in now} | then
    may_differ = HARMLESS | ({"lr", "lr_end"} if _only_scales(then, now, cfg) else frozenset())
    differing = [
        f"{key} is {then.get(key, 'not set')!r} there, {now.get(key, 'not set')!r} here"
        for key in sorted(then.keys() | now.keys())
        if key.partition(".")[0] not in may_differ and then.get(key) != now.get(key)
    ]
    if differing:
        raise ConfigError(
            f"{folder} is of a run with other settings: {'; '.join(differing)}. Set them back to resume it, or start a "
            "new run in another folder." + (LR_REMEDY if any(d.startswith("lr ") for d in differing) else "")
        )
    if (folder / STATE).is_file():
        text_then = json.loads((folder / STATE).read_text(encoding="utf-8"))["text_files"]
        if text_then != text_files(cfg.dataset_path):
            raise ConfigError(
                f"dataset_path={cfg.dataset_path!r} has other files, or other sizes of them, than when {folder} was "
                "written; put the text back as it was, or start a new run in another folder."
            )


def config_then(checkpoint: Path) -> dict[str, Any]:
    """The config, as in a file, of the run that wrote a checkpoint, up to there."""
    return yaml.safe_load((checkpoint / CONFIG_FILENAME).read_text(encoding="utf-8"))


def _require_changeable(keys: Sequence[str]) -> None:
    for key in keys:
        if key not in CHANGEABLE:
            raise ConfigError(
                f"resume_allows_changes names {key!r}; of the keys that affect the steps, only {', '.join(CHANGEABLE)} can change."
            )


def _only_scales(then: Mapping[str, Any], now: Mapping[str, Any], cfg: TrainingConfig) -> bool:
    """Whether the learning rates may differ, and the schedule stays the same but for a factor."""
    shares = [values.get("lr_end", 0.0) / values["lr"] for values in (then, now)]
    return "lr" in cfg.resume_allows_changes and math.isclose(*shares)


def _defaults(cfg: TrainingConfig, then: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults of the keys of the config, its logger, its SAE and the companions that the run had ``then``."""
    parts: list[tuple[str, Any]] = [("", cfg), ("logger.", cfg.logger), ("sae.", cfg.sae)]
    companions = [(f"companions.{name}.", sae) for name, sae in cfg.companions.items()]
    parts += [(prefix, sae) for prefix, sae in companions if f"{prefix}architecture" in then]
    return {prefix + f.name: f.default for prefix, part in parts for f in fields(part) if f.default is not MISSING}
