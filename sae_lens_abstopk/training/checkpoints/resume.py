"""Decide whether a run starts, goes on from a checkpoint, or is finished, and whether a folder holds the same run."""

import json
import math
from pathlib import Path
from typing import Any

from rich.console import Console
from sae_lens.constants import SAE_WEIGHTS_FILENAME, TRAINER_STATE_FILENAME

from sae_lens_abstopk.system.errors import ConfigError, require_choice
from sae_lens_abstopk.system.folder_lock import LOCK
from sae_lens_abstopk.system.yaml_files import CONFIG_FILENAME, flat_keys
from sae_lens_abstopk.text.text_files import same_text_files, text_files
from sae_lens_abstopk.training.checkpoints.checkpoint import MANIFEST, checkpoints, damage, newest_checkpoint
from sae_lens_abstopk.training.checkpoints.training_state import STATE
from sae_lens_abstopk.training.config.config_file import load_config
from sae_lens_abstopk.training.config.training_config import NEWEST, TrainingConfig
from sae_lens_abstopk.training.run_folder import METRICS_FILENAME, checkpoint_root, sae_folder
from sae_lens_abstopk.training.tracking.loggers import COLUMNS

HARMLESS = {
    *("device", "llm_device", "tuned_device", "act_store_device", "logger", "verbose", "prefetch_llm_batches"),
    *("checkpoint_freq", "checkpoint_path", "checkpoints_kept", "save_final_checkpoint", "divergence_factor"),
    *("output_path", "perf_log_freq", "perf_tokens", "resume_allows_changes", "resume_from_checkpoint"),
    *("sae_lens_version", "sae_lens_training_version"),
}
"""Config keys that no step depends on."""


def checkpoint_to_resume(cfg: TrainingConfig, console: Console) -> Path | None:
    """Find the whole checkpoint of ``cfg.resume_from_checkpoint``, if any; damaged ones are listed on ``console``."""
    named = cfg.resume_from_checkpoint
    if named is None:
        return None
    if named == NEWEST:
        folder, torn = newest_checkpoint(checkpoint_root(cfg))
        for other, problem in torn.items():
            console.print(f"checkpoint {other} is skipped: {problem}", markup=False, soft_wrap=True)
    else:
        folder, remedy = Path(named), "name another one, or use --resume without a path to find the newest"
        problem = damage(folder) if folder.is_dir() else "there is no such folder"
        ours = (folder / MANIFEST).exists() or (folder / STATE).exists()
        if (folder / TRAINER_STATE_FILENAME).is_file() and not ours:
            problem = "it is of SAELens's own runner, without the mixing buffer and the position in the text"
            remedy = f"start a new run from its weights with from_pretrained_path={named!r}"
        if problem is not None:
            raise ConfigError(f"resume_from_checkpoint={named!r} is not a whole checkpoint: {problem}; {remedy}.")
    if folder is not None:
        require_same_run(folder, cfg)
    return folder


def resume_if_started(cfg: TrainingConfig) -> None:
    """Set the config to resume if the run folder holds an unfinished run."""
    if (Path(cfg.output_path or "") / CONFIG_FILENAME).is_file():
        cfg.resume_from_checkpoint = NEWEST


def is_finished(cfg: TrainingConfig) -> bool:
    """Return whether the run folder holds the final weights of all SAEs."""
    output = Path(cfg.output_path or "")
    if _run_files(cfg):
        require_same_run(output, cfg)
    return all((sae_folder(output, name) / SAE_WEIGHTS_FILENAME).exists() for name in cfg.all_saes)


def refuse_to_overwrite(cfg: TrainingConfig) -> None:
    """Require that the run folder can be written without loss."""
    output = Path(cfg.output_path or "")
    resumes, files = cfg.resume_from_checkpoint is not None, _run_files(cfg)
    place = f"output_path={str(output)!r}"
    other = f"name another folder, or resume it with --resume (resume_from_checkpoint={NEWEST!r} in Python)"
    problem = None
    if output.is_file():
        problem = "is a file; name a folder"
    elif resumes and is_finished(cfg):
        problem = f"holds a finished run; name another folder, or load its SAE: SAE.load_from_disk({str(output)!r})"
    elif "checkpoints" in files and cfg.checkpoint_path is not None and not resumes:
        place, problem = f"checkpoint_path={cfg.checkpoint_path!r}", f"already holds checkpoints of a run; {other}"
    elif files and not (resumes and ("checkpoints" in files or (output / CONFIG_FILENAME).is_file())):
        problem = f"already holds a run ({', '.join(files)}); {other}"
    if problem is not None:
        raise ConfigError(f"{place} {problem}.")


def _run_files(cfg: TrainingConfig) -> list[str]:
    """
    List the SAE files and checkpoints in the run folder; empty before the first step.

    Raise if the run would overwrite a config.yaml that the user wrote: no other file of a run is beside it.
    """
    output, saved = Path(cfg.output_path or ""), checkpoints(checkpoint_root(cfg))
    by_run = saved or any((output / name).exists() for name in (LOCK, METRICS_FILENAME, SAE_WEIGHTS_FILENAME))
    if (output / CONFIG_FILENAME).is_file() and not by_run:
        raise ConfigError(
            f"output_path={str(output)!r} holds a {CONFIG_FILENAME} that no run wrote and the run would overwrite; "
            "rename the file, or name another folder."
        )
    files = []
    for name in cfg.all_saes:
        weights, metrics = (sae_folder(output, name) / file for file in (SAE_WEIGHTS_FILENAME, METRICS_FILENAME))
        took_step = metrics.is_file() and metrics.read_bytes().splitlines() not in ([], [",".join(COLUMNS).encode()])
        files += [path for path, exists in ((weights, weights.exists()), (metrics, took_step)) if exists]
    return [str(path.relative_to(output)) for path in files] + ["checkpoints"] * bool(saved)


def require_same_run(folder: Path, cfg: TrainingConfig) -> None:
    """
    Raise a :class:`ConfigError` if the config in ``folder``, if any, has other values than ``cfg``.

    :data:`HARMLESS` keys may differ. If ``lr`` may change, an unchanged ``lr_end`` in ``cfg`` is scaled with it.
    """
    for key in cfg.resume_allows_changes:
        require_choice("resume_allows_changes", key, ("lr",), remedy=": no other key of the steps can change")
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
    problem = f"is of a run with other settings: {'; '.join(differing)}. Set them back" if differing else None
    if (folder / STATE).is_file():
        text_then = json.loads((folder / STATE).read_text(encoding="utf-8"))["text_files"]
        # without digests: a user may repair a file that could not be read
        if problem is None and not same_text_files(text_then, text_files(cfg.dataset_path), digests=False):
            problem = f"is of a run whose dataset_path={cfg.dataset_path!r} had other files or sizes. Put the text back"
    if problem is not None:
        of_lr = " lr may be changed with --allow-changes lr (resume_allows_changes), lr_end only in proportion to it."
        hint = of_lr if there["lr"] != here["lr"] else ""
        raise ConfigError(f"{folder} {problem} to resume it, or name another folder.{hint}")


def _values(cfg: TrainingConfig) -> dict[str, Any]:
    """Return the values that a step depends on, by override key (``sae.k``)."""
    plain = {key: value for key, value in cfg.to_dict().items() if key not in HARMLESS}
    for sae in (plain["sae"], *plain["companions"].values()):
        del sae["device"], sae["metadata"]  # set by SAELens during a run
    return flat_keys(plain)
