"""Require that a folder holds the run of a config: every value that a step depends on is the same."""

import json
import math
from pathlib import Path
from typing import Any

from sae_lens_abstopk.system.errors import ConfigError
from sae_lens_abstopk.system.yaml_files import CONFIG_FILENAME, flat_keys
from sae_lens_abstopk.text.text_files import same_text_files, text_files
from sae_lens_abstopk.training.checkpoints.training_state import STATE
from sae_lens_abstopk.training.config.config_file import load_config
from sae_lens_abstopk.training.config.training_config import TrainingConfig

HARMLESS = {
    *("device", "llm_device", "act_store_device", "logger", "verbose", "prefetch_llm_batches"),
    *("checkpoint_freq", "checkpoint_path", "checkpoints_kept", "save_final_checkpoint", "divergence_factor"),
    *("output_path", "perf_log_freq", "perf_tokens", "resume_allows_changes", "resume_from_checkpoint"),
    *("sae_lens_version", "sae_lens_training_version"),
}
"""Config keys that no step depends on."""


def require_same_run(folder: Path, cfg: TrainingConfig) -> None:
    """
    Raise if the config in ``folder``, if any, has other values than ``cfg``.

    If ``lr`` may change (``resume_allows_changes``), scale an unchanged ``lr_end`` in ``cfg`` with it.

    Raises:
        ConfigError: with each differing key and both values; :data:`HARMLESS` keys may differ.
    """
    if unknown := set(cfg.resume_allows_changes) - {"lr"}:
        raise ConfigError(
            f"resume_allows_changes={sorted(unknown)}: of the keys that affect the steps, only lr can change."
        )
    path = folder / CONFIG_FILENAME
    if not path.is_file():
        return
    before = load_config(path)
    may_change = "lr" in cfg.resume_allows_changes
    if may_change and cfg.lr_end == before.lr_end:
        cfg.lr_end = cfg.lr_end and cfg.lr_end * cfg.lr / before.lr
    there, here = _values(before), _values(cfg)
    if may_change and math.isclose(there["lr_end"] / there["lr"], here["lr_end"] / here["lr"]):
        there |= {key: here[key] for key in ("lr", "lr_end")}
    differing = [
        f"{key} is {there.get(key, 'not set')!r} there, {here.get(key, 'not set')!r} here"
        for key in sorted(there.keys() | here.keys())
        if there.get(key) != here.get(key)
    ]
    if differing:
        of_lr = " lr may be changed with --allow-changes lr (resume_allows_changes), lr_end only in proportion to it."
        raise ConfigError(
            f"{folder} is of a run with other settings: {'; '.join(differing)}. Set them back to resume it, or name "
            f"another folder.{of_lr if there['lr'] != here['lr'] else ''}"
        )
    if (folder / STATE).is_file():
        text_then = json.loads((folder / STATE).read_text(encoding="utf-8"))["text_files"]
        # without digests: a user may repair a file that could not be read
        if not same_text_files(text_then, text_files(cfg.dataset_path), digests=False):
            raise ConfigError(
                f"dataset_path={cfg.dataset_path!r} has other files, or other sizes of them, than when {folder} was "
                "written; put the text back as it was, or name another folder."
            )


def _values(cfg: TrainingConfig) -> dict[str, Any]:
    """Return the values that a step depends on, by override key (``sae.k``)."""
    plain = {key: value for key, value in cfg.to_dict().items() if key not in HARMLESS}
    for sae in (plain["sae"], *plain["companions"].values()):
        del sae["device"], sae["metadata"]  # set by SAELens during a run
    return flat_keys(plain)
