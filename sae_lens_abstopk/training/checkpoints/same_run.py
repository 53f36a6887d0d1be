"""Whether a folder holds the run of a config: every value that a step depends on is the same."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.yaml_files import flat_keys, read_yaml, yaml_value
from sae_lens_abstopk.text.text_files import same_text_files, text_files
from sae_lens_abstopk.training.checkpoints.training_state import STATE
from sae_lens_abstopk.training.config.config_file import dump_config
from sae_lens_abstopk.training.config.training_config import TrainingConfig
from sae_lens_abstopk.training.run_folder import CONFIG_FILENAME

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
        "save_final_checkpoint",
        "verbose",
    }
)
CHANGEABLE = ("lr",)
"""What a run may go on with differently where it is told so."""
LR_REMEDY = (
    " lr may be changed with --allow-changes lr (resume_allows_changes), which scales the schedule and lr_end with it; an "
    "lr_end that is changed too has to keep its share of lr."
)


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
    then = _values(read_yaml(path))
    lr_then = then.get("lr", TrainingConfig.lr)
    if "lr" in cfg.resume_allows_changes and cfg.lr_end is not None and cfg.lr_end == then.get("lr_end"):
        cfg.lr_end *= cfg.lr / lr_then if isinstance(lr_then, int | float) and lr_then else 1
    now = _values(yaml_value(dump_config(cfg)))
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
        # not their digests: a byte that cannot be read may be mended
        if not same_text_files(text_then, text_files(cfg.dataset_path), digests=False):
            raise ConfigError(
                f"dataset_path={cfg.dataset_path!r} has other files, or other sizes of them, than when {folder} was "
                "written; put the text back as it was, or start a new run in another folder."
            )


def _values(document: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a config file by the keys of overrides; ``lr_end`` as a run has it where the file has null."""
    values = flat_keys(document)
    lr = values.get("lr", TrainingConfig.lr)
    if values.get("lr_end") is None and isinstance(lr, int | float):
        values["lr_end"] = lr / 10
    return values


def _require_changeable(keys: Sequence[str]) -> None:
    for key in keys:
        if key not in CHANGEABLE:
            raise ConfigError(
                f"resume_allows_changes names {key!r}; of the keys that affect the steps, only {', '.join(CHANGEABLE)} can change."
            )


def _only_scales(then: Mapping[str, Any], now: Mapping[str, Any], cfg: TrainingConfig) -> bool:
    """Whether the learning rates may differ, and the schedule stays the same but for a factor."""
    try:
        shares = [values.get("lr_end", 0.0) / values["lr"] for values in (then, now)]
    except (TypeError, ZeroDivisionError):  # of a file that was edited by hand
        return False
    return "lr" in cfg.resume_allows_changes and math.isclose(*shares)


def _defaults(cfg: TrainingConfig, then: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults of the keys of the config, its logger, its SAE and the companions that the run had ``then``."""
    parts: list[tuple[str, Any]] = [("", cfg), ("logger.", cfg.logger), ("sae.", cfg.sae)]
    companions = [(f"companions.{name}.", sae) for name, sae in cfg.companions.items()]
    parts += [(prefix, sae) for prefix, sae in companions if f"{prefix}architecture" in then]
    return {prefix + f.name: f.default for prefix, part in parts for f in fields(part) if f.default is not MISSING}
